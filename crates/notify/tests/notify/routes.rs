use rootwatch_core::alert::{Alert, AlertKind};
use rootwatch_core::finding::Severity;
use rootwatch_notify::route::route;
use rootwatch_notify::{Notifier, NotifyConfig, sample};

use crate::common::{at, config, opened};

/// Destinations `chat`, `mail` (from medium on) and `page` (from high on), with these routes.
fn routes(routes: &str) -> NotifyConfig {
    config(&format!(
        r#"{{ "destination": {{ "chat": {{ "channel": "log" }},
            "mail": {{ "channel": "log", "min_severity": "medium" }},
            "page": {{ "channel": "log", "min_severity": "high" }} }}, "route": {routes} }}"#
    ))
}

fn goes(to: &str, alert: &Alert) -> String {
    let config = routes(to);
    assert_eq!(Notifier::check(&config), []);
    route(&config.route, &config.destination, alert).join(" ")
}

fn of(severity: Severity) -> Alert {
    let mut alert = opened();
    alert.severity = severity;
    alert
}

#[test]
fn without_routes_everybody_hears_what_is_bad_enough() {
    assert_eq!(goes("[]", &of(Severity::Critical)), "chat mail page");
    assert_eq!(goes("[]", &of(Severity::Medium)), "chat mail");
    assert_eq!(goes("[]", &of(Severity::Low)), "chat");
}

#[test]
fn the_first_route_that_fits_decides_unless_it_goes_on() {
    let alert = of(Severity::Critical);
    let first = r#"[{ "account": ["prod-*"], "to": ["page"] }, { "to": ["chat"] }]"#;
    assert_eq!(goes(first, &alert), "page");
    let on = r#"[{ "account": ["2222*"], "to": ["page"], "continue": true },
        { "unit": ["Production"], "to": ["chat", "page"] }]"#;
    assert_eq!(goes(on, &alert), "page chat");
    let nobody = r#"[{ "root_use": ["direct"], "to": [] }]"#;
    assert_eq!(goes(nobody, &alert), "");
}

#[test]
fn an_alert_that_fits_no_route_goes_to_all() {
    let alert = of(Severity::Critical);
    for condition in [
        r#""account": ["sandbox-*"]"#,
        r#""unit": ["Sandbox"]"#,
        r#""rule": ["root-key-*"]"#,
        r#""root_use": ["privileged", "derived"]"#,
        r#""alert": ["closed"]"#,
    ] {
        let to = format!(r#"[{{ {condition}, "to": ["chat"] }}]"#);
        assert_eq!(goes(&to, &alert), "chat mail page", "{condition}");
    }
    let rule = r#"[{ "rule": ["root-console-login-*"], "alert": ["opened"], "to": ["chat"] }]"#;
    assert_eq!(goes(rule, &alert), "chat");
}

#[test]
fn the_time_of_day_counts_where_people_are_and_over_midnight() {
    let night = r#"[{ "time": { "from": "22:00", "until": "06:00", "zone": "Europe/Zurich",
        "days": ["sat"] }, "to": ["page"] }, { "to": ["chat"] }]"#;
    let goes_at = |to: &str, moment: &str| {
        let mut alert = of(Severity::Critical);
        alert.decided_at = at(moment);
        goes(to, &alert)
    };
    // The clock goes from 02:00 to 03:00 on Sunday 2026-03-29, and back on 2026-10-25.
    for (moment, to) in [
        ("2026-03-28T20:59:59Z", "chat"),
        ("2026-03-28T21:00:00Z", "page"),
        ("2026-03-29T03:59:59Z", "page"),
        ("2026-03-29T04:00:00Z", "chat"),
        ("2026-03-29T21:00:00Z", "chat"),
        ("2026-10-24T20:00:00Z", "page"),
        ("2026-10-25T04:59:59Z", "page"),
        ("2026-10-25T05:00:00Z", "chat"),
    ] {
        assert_eq!(goes_at(night, moment), to, "{moment}");
    }
}

#[test]
fn that_telling_is_broken_goes_to_all_others_and_a_test_to_all() {
    let mut alert = of(Severity::Low);
    alert.kind = AlertKind::DeliveryFailing { destination: "chat".to_owned() };
    assert_eq!(goes(r#"[{ "to": [] }]"#, &alert), "mail page");
    alert.kind = AlertKind::Test;
    assert_eq!(goes(r#"[{ "to": [] }]"#, &alert), "chat mail page");
}

#[test]
fn faults_are_found_offline_and_named_by_their_key() {
    let faulty = config(
        r#"{ "destination": {
            "a": { "channel": "log", "escalate_to": "b" },
            "b": { "channel": "log", "escalate_to": "c" },
            "c": { "channel": "log", "escalate_to": "a" },
            "d": { "channel": "log", "escalate_to": "d" },
            "e": { "channel": "log", "escalate_to": "nobody", "timeout_secs": 31 },
            "f g": { "channel": "webhook", "url": "env:A" } },
        "route": [{ "to": ["who"], "alert": ["opend"], "time": { "from": "8:00", "until": "24:00",
            "zone": "Mars/Olympus", "days": ["monday"] } }],
        "digest": { "at": "25:00" } }"#,
    );
    let problems: Vec<String> = Notifier::check(&faulty).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(problems.join("\n"));
}

#[test]
fn templates_are_tried_on_every_sample_before_anything_is_sent() {
    let config = config(
        r#"{ "destination": { "a": { "channel": "log", "template": "ours" },
                               "b": { "channel": "log", "template": "theirs" } },
             "template": { "ours": { "title": "{{ severity }} in {{ accounts[0].name }}",
                                     "compact": "{{ severity }} {{ accounts | length }}" } } }"#,
    );
    let problems: Vec<String> = Notifier::check(&config).iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!(problems[0], "notify.destination.b.template: unknown template `theirs`");
    // A test is about no account.
    assert!(problems[1].starts_with("notify.template.ours.title: undefined"), "{}", problems[1]);
    assert!(problems[1].ends_with("(with the sample `test`)"), "{}", problems[1]);
}

#[test]
fn who_looks_after_an_incident_is_told_where_it_has_a_ticket_and_nowhere_else() {
    let config = config(
        r#"{ "destination": {
            "bot": { "channel": "slack", "token": "env:T", "conversation": "C0EXAMPLE00" },
            "hook": { "channel": "slack", "url": "env:U" },
            "log": { "channel": "log" } } }"#,
    );
    let mut alert = opened();
    assert_eq!(route(&config.route, &config.destination, &alert), ["bot", "hook", "log"]);
    alert.kind = AlertKind::Acknowledged { by: "anna".to_owned() };
    assert_eq!(route(&config.route, &config.destination, &alert), ["bot"]);
}

#[test]
fn routes_can_ask_whether_it_was_approved() {
    let config = config(
        r#"{ "destination": { "chat": { "channel": "log" }, "page": { "channel": "log" } },
             "route": [ { "approved": true, "to": ["chat"] }, { "to": ["chat", "page"] } ] }"#,
    );
    let sample = |name| sample::alert(name).expect("a sample").expect("it is known");
    assert_eq!(route(&config.route, &config.destination, &sample("approved")), ["chat"]);
    assert_eq!(
        route(&config.route, &config.destination, &sample("outside_window")),
        ["chat", "page"]
    );
    assert_eq!(route(&config.route, &config.destination, &sample("opened")), ["chat", "page"]);
}
