//! Templates that replace single built-in texts.
//!
//! The language is that of Jinja without what could reach outside or run long: no other templates,
//! no macros, a bound on the work and on the text. A template sees only masked texts. Its result can
//! quote a stranger's text, so it is treated like one: cut here, escaped by each channel. If a
//! template fails, the built-in text is sent: no alert is lost to a template.

use std::fmt;
use std::io::{self, Write};

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};
use rootwatch_core::text;

use super::config::TemplateConfig;
use super::{COMPACT_COLUMNS_MAX, TEXT_COLUMNS_MAX, TITLE_COLUMNS_MAX, Wording};

/// Bytes of a template.
pub(crate) const SOURCE_BYTES_MAX: usize = 4 << 10;
/// Bytes that a template may make.
const MADE_BYTES_MAX: usize = 16 << 10;
/// Steps that a template may take: about a loop over all findings of an alert, ten times.
const FUEL: u64 = 20_000;
/// Columns of the text in sentences.
const PROSE_COLUMNS_MAX: usize = 1_200;
/// Lines of what to do first.
const STEPS_MAX: usize = 8;

/// What is wrong with a template: its key, and the fault in words.
pub(crate) type TemplateFault = (&'static str, String);

/// A name for each text, its template, and how many columns it may have.
fn texts(config: &TemplateConfig) -> [(&'static str, Option<&str>, usize); 6] {
    [
        ("title", config.title.as_deref(), TITLE_COLUMNS_MAX),
        ("compact", config.compact.as_deref(), COMPACT_COLUMNS_MAX),
        ("lead", config.lead.as_deref(), TEXT_COLUMNS_MAX),
        ("prose", config.prose.as_deref(), PROSE_COLUMNS_MAX),
        ("next", config.next.as_deref(), TEXT_COLUMNS_MAX),
        ("foot", config.foot.as_deref(), TEXT_COLUMNS_MAX),
    ]
}

/// Replaces the texts for which there is a template; says which failed, and why.
pub(crate) fn apply(wording: &mut Wording, config: &TemplateConfig) -> Vec<TemplateFault> {
    let environment = environment();
    let values = values(wording);
    let mut faults = Vec::new();
    for (name, source, columns_max) in texts(config) {
        let Some(source) = source else { continue };
        let made = match made(&environment, source, &values) {
            Ok(made) => made,
            Err(fault) => {
                faults.push((name, fault));
                continue;
            }
        };
        let text = text::cap(made.trim(), columns_max);
        match name {
            "next" => {
                let steps = made.lines().map(str::trim).filter(|line| !line.is_empty());
                wording.next =
                    steps.take(STEPS_MAX).map(|step| text::cap(step, columns_max)).collect();
            }
            "prose" => wording.prose = Some(text).filter(|text| !text.is_empty()),
            "lead" => wording.lead = text,
            "foot" => wording.foot = text,
            // A message has to say something on its first line.
            _ if text.is_empty() => faults.push((name, "it makes no text".to_owned())),
            "title" => wording.title = text,
            _ => wording.compact = text,
        }
    }
    faults
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment
}

/// What a template can name.
fn values(wording: &Wording) -> Value {
    let alert = &wording.json;
    let incident = &alert["incidents"][0];
    context! {
        severity => wording.severity.name(),
        kind => Value::from(Serde(&alert["kind"])),
        title => wording.title.clone(),
        compact => wording.compact.clone(),
        lead => wording.lead.clone(),
        prose => wording.prose.clone().unwrap_or_default(),
        foot => wording.foot.clone(),
        fresh => wording.fresh.clone(),
        why => wording.why.clone(),
        next => wording.next.clone(),
        timeline => wording.timeline.clone(),
        listed => wording.listed.clone(),
        link => alert["link"].as_str().unwrap_or_default(),
        incident => Value::from(Serde(incident)),
        accounts => Value::from(Serde(incident["accounts"].as_array().cloned().unwrap_or_default())),
        findings => Value::from(Serde(&alert["findings"])),
    }
}

/// Ends a template that makes too much.
#[derive(Debug, Default)]
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MADE_BYTES_MAX {
            return Err(io::Error::other(TooLong));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it makes more than {MADE_BYTES_MAX} bytes")
    }
}

impl std::error::Error for TooLong {}

fn made(environment: &Environment<'_>, source: &str, values: &Value) -> Result<String, String> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(format!("a template has at most {SOURCE_BYTES_MAX} bytes"));
    }
    let words = |error: minijinja::Error| {
        use std::error::Error as _;
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        text::cap(&format!("{error}{cause}"), 200)
    };
    let template = environment.template_from_named_str("it", source).map_err(words)?;
    let mut out = Bounded::default();
    template.render_captured_to(values.clone(), &mut out).map_err(words)?;
    String::from_utf8(out.0).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use crate::wording::config::RedactConfig;
    use crate::wording::{WordingOptions, template_faults};

    fn title(template: &str) -> Result<String, String> {
        let alert = sample::alert("opened").expect("a sample").expect("it is known");
        let redact = RedactConfig::NOTHING;
        let options = WordingOptions {
            link_base: None,
            redact: &redact,
            stands_in_for: None,
            template: None,
        };
        let mut wording = Wording::new(&alert, &options);
        let before = wording.title.clone();
        let config =
            TemplateConfig { title: Some(template.to_owned()), ..TemplateConfig::default() };
        match apply(&mut wording, &config).pop() {
            Some((_, fault)) => {
                assert_eq!(wording.title, before, "our own words stay");
                Err(fault)
            }
            None => Ok(wording.title),
        }
    }

    #[test]
    fn a_template_names_what_the_documentation_says() {
        let made = title(
            "{{ severity | upper }}: {{ accounts[0].name }}, {{ why | length > 0 }}, {{ incident.id }}",
        );
        let made = made.expect("a title");
        assert!(made.starts_with("CRITICAL: prod-payments, True, "), "{made}");
        assert_eq!(
            title("{% for one in findings %}{{ one.event_name }};{% endfor %}").expect("a title"),
            "ConsoleLogin;"
        );
        for name in [
            "kind", "title", "compact", "lead", "prose", "foot", "link", "fresh", "next",
            "timeline", "listed",
        ] {
            title(&format!("x{{{{ {name} }}}}")).expect(name);
        }
    }

    #[test]
    fn what_fails_runs_long_or_makes_nothing_leaves_our_own_words() {
        for (template, word) in [
            ("{{ severty }}", "undefined"),
            ("{% if %}", "syntax error"),
            (
                "{% for a in range(1000) %}{% for b in range(1000) %}x{% endfor %}{% endfor %}",
                "fuel",
            ),
            ("{% for a in range(500) %}{{ lead }}{{ lead }}{% endfor %}", "more than 16384 bytes"),
            ("{% include 'other' %}", "unknown"),
            ("  ", "makes no text"),
        ] {
            let fault = title(template).expect_err(template);
            assert!(fault.contains(word), "{template}: {fault}");
        }
        let long = title(&"x".repeat(SOURCE_BYTES_MAX + 1)).expect_err("too long");
        assert!(long.contains("4096"), "{long}");
    }

    #[test]
    fn what_a_template_makes_is_bounded_and_of_one_line() {
        let made = title("{{ lead }}\n\u{202e}{{ lead }}{{ lead }}").expect("a title");
        assert!(text::width(&made) <= TITLE_COLUMNS_MAX && !made.contains('\n'), "{made}");
        assert!(!made.contains('\u{202e}'));
    }

    #[test]
    fn every_sample_is_tried_when_the_configuration_is_checked() {
        let digest = sample::alert("digest").expect("a sample").expect("it is known");
        let config = TemplateConfig {
            lead: Some("{{ findings[0].event_name }}".to_owned()),
            ..TemplateConfig::default()
        };
        let faults = template_faults(&digest, &config);
        assert_eq!(faults.len(), 1, "a digest has no findings");
    }
}
