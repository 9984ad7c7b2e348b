//! Finds errors in `[notify]` offline.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::{ConfigProblem, DESTINATIONS_MAX, DestinationConfig, NotifyConfig, ROUTES_MAX};
use crate::route::{ROUTED_KINDS, routed_kind};
use crate::sample;
use crate::time_of_day::{parse_days, parse_time, parse_zone};
use crate::wording::template_faults;

/// Bytes of a destination's name.
const NAME_BYTES_MAX: usize = 40;

/// All errors, in the order of the configuration.
pub(crate) fn check(config: &NotifyConfig) -> Vec<ConfigProblem> {
    let mut problems = Vec::new();
    if config.destination.len() > DESTINATIONS_MAX {
        let problem = format!("more than {DESTINATIONS_MAX} destinations");
        problems.push(ConfigProblem::new("notify.destination", problem));
    }
    for (name, destination) in &config.destination {
        destination_problems(name, destination, config, &mut problems);
    }
    problems.extend(loops(&config.destination));
    if config.route.len() > ROUTES_MAX {
        problems.push(ConfigProblem::new("notify.route", format!("more than {ROUTES_MAX} routes")));
    }
    routes(config, &mut problems);
    problems.extend(config.digest.problems());
    templates(config, &mut problems);
    problems
}

fn destination_problems(
    name: &str,
    destination: &DestinationConfig,
    config: &NotifyConfig,
    problems: &mut Vec<ConfigProblem>,
) {
    let at = |key: &str| format!("notify.destination.{name}.{key}");
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_name) {
        let key = format!("notify.destination.{}", rootwatch_core::text::cap(name, 60));
        let problem =
            format!("a name must be 1 to {NAME_BYTES_MAX} ASCII letters, digits, `-` or `_`");
        problems.push(ConfigProblem::new(key, problem));
    }
    let common = &destination.common;
    if let Some(next) = &common.escalate_to {
        if next == name {
            problems
                .push(ConfigProblem::new(at("escalate_to"), "the destination escalates to itself"));
        } else if !config.destination.contains_key(next) {
            problems.push(ConfigProblem::new(at("escalate_to"), unknown(next, config)));
        }
    }
    let mut within = |key: &str, value: u32, bounds: RangeInclusive<u32>| {
        if !bounds.contains(&value) {
            let (least, most) = bounds.into_inner();
            let problem = format!("{value} is not between {least} and {most}");
            problems.push(ConfigProblem::new(at(key), problem));
        }
    };
    within("escalate_after_mins", common.escalate_after_mins, 0..=43_200);
    within("age_max_hours", common.age_max_hours, 1..=720);
    within("timeout_secs", common.timeout_secs, 1..=30);
    within("concurrency", common.concurrency, 1..=32);
    within("rate_per_minute", common.rate_per_minute.unwrap_or(0), 0..=60_000);
    if let Some(template) = &common.template
        && !config.template.contains_key(template)
    {
        let template = rootwatch_core::text::cap(template, 60);
        problems.push(ConfigProblem::new(at("template"), format!("unknown template `{template}`")));
    }
    for (key, problem) in destination.channel.problems() {
        problems.push(ConfigProblem::new(at(key), problem));
    }
}

/// Templates that fail with a sample alert; each text is reported once.
fn templates(config: &NotifyConfig, problems: &mut Vec<ConfigProblem>) {
    if config.template.is_empty() {
        return;
    }
    let alerts = sample::NAMES.map(|name| (name, sample::alert(name).ok().flatten()));
    for (name, template) in &config.template {
        let mut reported = BTreeSet::new();
        for (sample, alert) in &alerts {
            let faults = alert.iter().flat_map(|alert| template_faults(alert, template));
            for (text, fault) in faults {
                if reported.insert(text) {
                    let name = rootwatch_core::text::cap(name, 60);
                    let key = format!("notify.template.{name}.{text}");
                    let problem = format!("{fault} (with the sample `{sample}`)");
                    problems.push(ConfigProblem::new(key, problem));
                }
            }
        }
    }
}

/// Circles of `escalate_to`; each is reported once, at its first destination.
fn loops(destinations: &BTreeMap<String, DestinationConfig>) -> Vec<ConfigProblem> {
    let mut problems = Vec::new();
    let mut reported = BTreeSet::new();
    for start in destinations.keys() {
        let mut chain: Vec<&str> = vec![start];
        let next = |name: &str| destinations.get(name)?.common.escalate_to.as_deref();
        while let Some(name) = chain.last().copied().and_then(next) {
            if name == chain.last().copied().unwrap_or_default() {
                break;
            }
            if let Some(first) = chain.iter().position(|one| *one == name) {
                if first == 0 && reported.insert(name) {
                    reported.extend(chain.iter().copied());
                    let key = format!("notify.destination.{start}.escalate_to");
                    chain.push(name);
                    let problem = format!("circle: {}", chain.join(" → "));
                    problems.push(ConfigProblem::new(key, problem));
                }
                break;
            }
            chain.push(name);
        }
    }
    problems
}

fn routes(config: &NotifyConfig, problems: &mut Vec<ConfigProblem>) {
    for (index, route) in config.route.iter().enumerate() {
        let mut note = |key: &str, problem: String| {
            problems.push(ConfigProblem::new(format!("notify.route[{index}].{key}"), problem));
        };
        for name in &route.to {
            if !config.destination.contains_key(name) {
                note("to", unknown(name, config));
            }
        }
        for kind in &route.alert {
            if !ROUTED_KINDS.contains(&routed_kind(kind)) {
                let kind = rootwatch_core::text::cap(kind, 40);
                note("alert", format!("`{kind}` is not one of {}", ROUTED_KINDS.join(", ")));
            }
        }
        if let Some(time) = &route.time {
            for (key, fault) in [
                ("time.from", parse_time(&time.from).err()),
                ("time.until", parse_time(&time.until).err()),
                ("time.zone", parse_zone(&time.zone).err()),
                ("time.days", parse_days(&time.days).err()),
            ] {
                if let Some(fault) = fault {
                    note(key, fault);
                }
            }
        }
    }
}

fn unknown(name: &str, config: &NotifyConfig) -> String {
    let names: Vec<&str> = config.destination.keys().map(String::as_str).collect();
    let name = rootwatch_core::text::cap(name, 60);
    if names.is_empty() {
        format!("`{name}` is not a configured destination; there is none")
    } else {
        format!("`{name}` is not a configured destination ({})", names.join(", "))
    }
}
