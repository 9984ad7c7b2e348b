//! File, environment and flags, put together once, with all that is wrong.

use std::path::{Path, PathBuf};

use rootwatch_core::secret::Secret;

use super::loaded::Loaded;
use super::problem::{Problem, Refused};
use super::tree::{self, Kind, Node, Provenance};
use super::types::{Config, schema};
use super::{check, shape};

/// Bytes of a configuration file at most.
pub(super) const FILE_BYTES_MAX: u64 = 4 << 20;
/// What the names of environment variables begin with.
pub(super) const PREFIX: &str = "ROOTWATCH_";
/// Variables that are no keys, and beginnings of such.
const NOT_KEYS: [&str; 4] =
    ["ROOTWATCH_LOG", "ROOTWATCH_CONFIG", "ROOTWATCH_TEST_", "ROOTWATCH_BENCH_"];

/// Where the text of a configuration comes from.
#[derive(Debug, Clone)]
pub enum ConfigFile {
    /// A file.
    Path(PathBuf),
    /// A text that was fetched. It may hold secrets, so it is never written to a file.
    Text {
        /// What problems call it.
        name: String,
        /// The text.
        body: Secret,
    },
}

impl ConfigFile {
    /// What problems call it.
    fn name(&self) -> &Path {
        match self {
            Self::Path(path) => path,
            Self::Text { name, .. } => Path::new(name),
        }
    }

    /// Where relative paths begin: the folder of a file, the current folder for a fetched text.
    fn folder(&self) -> &Path {
        match self {
            Self::Path(path) => path.parent().unwrap_or(Path::new("")),
            Self::Text { .. } => Path::new(""),
        }
    }
}

/// What a configuration is loaded from.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The file; `None` for the defaults.
    pub file: Option<ConfigFile>,
    /// Environment variables; those that do not begin with `ROOTWATCH_` are ignored.
    pub environment: Vec<(String, String)>,
    /// Flags: the key, the flag's name for people, and the value. They go before all else.
    pub flags: Vec<(String, String, String)>,
}

/// Reads and checks a configuration. Nothing outside this machine is asked; secrets are not
/// resolved: see [`secrets`](super::secrets).
///
/// # Errors
/// Everything that is wrong.
pub fn load(inputs: &Inputs) -> Result<Loaded, Refused> {
    let mut problems = Vec::new();
    let mut tree = match &inputs.file {
        Some(file) => read(file, &mut problems),
        None => Node::empty(),
    };
    if !problems.is_empty() {
        // For half a file, missing keys and unknown names would be reported wrongly.
        return Err(Refused { problems });
    }
    put_environment(&mut tree, &inputs.environment, &mut problems);
    for (key, flag, value) in &inputs.flags {
        let steps: Vec<String> = key.split('.').map(str::to_owned).collect();
        let place = Provenance::Flag(flag.clone());
        if let Err(message) = tree.put(&steps, value, &place) {
            problems.push(Problem::new(place, key, message));
        }
    }
    let schema = schema();
    problems.extend(shape::check(&schema, &mut tree));
    let folder = inputs.file.as_ref().map_or(Path::new(""), ConfigFile::folder);
    settle_paths(&mut tree, folder);

    // Values of the wrong shape cannot be read, but the rest can be checked.
    let config = match serde_path_to_error::deserialize::<_, Config>(tree.to_json()) {
        Ok(config) => config,
        Err(error) => {
            let key = error.path().to_string();
            let node = tree.nearest(&key);
            let is_reported = problems.iter().any(|one| one.key.starts_with(&key) || key == ".");
            if problems.is_empty() || !is_reported {
                let message = plain(&error.into_inner().to_string());
                problems.push(Problem::new(node.at.clone(), key, message));
            }
            return Err(refused(problems));
        }
    };
    problems.extend(check::check(&config, &tree));
    let config = with_log(config);
    if problems.iter().any(|problem| !problem.is_warning) {
        return Err(refused(problems));
    }
    let (file, folder) =
        (inputs.file.as_ref().map(|file| file.name().to_owned()), folder.to_owned());
    Ok(Loaded { config, warnings: problems, file, folder, tree })
}

/// Without a destination, alerts go to standard output.
fn with_log(mut config: Config) -> Config {
    let log = serde_json::json!({ "channel": "log" });
    if config.notify.destination.is_empty()
        && let Ok(log) = serde_json::from_value(log)
    {
        config.notify.destination.insert("log".to_owned(), log);
    }
    config
}

/// Problems in the order of the file, others last, each once.
fn refused(mut problems: Vec<Problem>) -> Refused {
    let order = |place: &Provenance| match place {
        Provenance::File { line, column, .. } => (0, *line, *column),
        _ => (1, 0, 0),
    };
    problems.sort_by_key(|problem| order(&problem.place));
    problems.dedup();
    Refused { problems }
}

/// A message of the deserializer, on one line and without a full stop.
fn plain(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default().trim_end_matches('.');
    line.to_owned()
}

fn read(file: &ConfigFile, problems: &mut Vec<Problem>) -> Node {
    let path = file.name();
    let mut fail = |message: String| {
        let place = Provenance::File { path: path.to_owned(), line: 1, column: 1 };
        problems.push(Problem::new(place, "", message));
        Node::empty()
    };
    let text = match file {
        ConfigFile::Text { body, .. } => Ok(body.expose().to_owned()),
        ConfigFile::Path(path) => match std::fs::metadata(path) {
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                return fail(format!("is larger than {FILE_BYTES_MAX} bytes"));
            }
            Ok(_) => std::fs::read_to_string(path),
            Err(error) => Err(error),
        },
    };
    match text {
        Ok(text) => {
            let (tree, faults) = tree::parse(path, &text);
            let faults = faults.into_iter();
            problems.extend(faults.map(|(place, fault)| Problem::new(place, "", fault)));
            tree
        }
        Err(error) => fail(format!("cannot be read: {error}")),
    }
}

fn put_environment(tree: &mut Node, environment: &[(String, String)], problems: &mut Vec<Problem>) {
    let mut variables: Vec<_> = environment
        .iter()
        .filter(|(name, _)| name.starts_with(PREFIX))
        .filter(|(name, _)| {
            !NOT_KEYS.iter().any(|one| name == one || (one.ends_with('_') && name.starts_with(one)))
        })
        .collect();
    // Entries of lists in their order.
    variables.sort();
    for (name, value) in variables {
        let steps: Vec<String> =
            name[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
        let place = Provenance::Environment(name.clone());
        let result = if steps.iter().any(String::is_empty) {
            Err("has an empty level: separate levels with two underscores".to_owned())
        } else {
            tree.put(&steps, value, &place)
        };
        if let Err(message) = result {
            problems.push(Problem::new(place, steps.join("."), message));
        }
    }
}

/// Joins relative paths in the file to its folder, so that they mean the same wherever the program is
/// started.
fn settle_paths(tree: &mut Node, folder: &Path) {
    let settle = |node: Option<&mut Node>| {
        if let Some(Node { kind: Kind::Text(text), at: Provenance::File { .. }, .. }) = node
            && !text.is_empty()
            && Path::new(text).is_relative()
        {
            *text = folder.join(&text).to_string_lossy().into_owned();
        }
    };
    let Kind::Table(top) = &mut tree.kind else { return };
    if let Some(Node { kind: Kind::Table(store), .. }) = top.get_mut("store") {
        settle(store.get_mut("path"));
    }
    if let Some(Node { kind: Kind::Table(rules), .. }) = top.get_mut("rules")
        && let Some(Node { kind: Kind::Array(folders), .. }) = rules.get_mut("dir")
    {
        folders.iter_mut().for_each(|one| settle(Some(one)));
    }
    if let Some(Node { kind: Kind::Table(source), .. }) = top.get_mut("source")
        && let Some(Node { kind: Kind::Array(folders), .. }) = source.get_mut("directory")
    {
        for one in folders {
            if let Kind::Table(keys) = &mut one.kind {
                settle(keys.get_mut("path"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a file of this text, a line each.
    fn wrong(text: &str, environment: &[(&str, &str)], flags: &[(&str, &str, &str)]) -> String {
        match loaded(text, environment, flags) {
            Ok(loaded) => panic!("nothing is wrong: {:?}", loaded.config),
            Err(refused) => refused.problems.iter().map(|one| format!("{one}\n")).collect(),
        }
    }

    fn loaded(
        text: &str,
        environment: &[(&str, &str)],
        flags: &[(&str, &str, &str)],
    ) -> Result<Loaded, Refused> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hub.toml");
        std::fs::write(&path, text).expect("written");
        let own = |text: &&str| (*text).to_owned();
        let inputs = Inputs {
            file: Some(ConfigFile::Path(path)),
            environment: environment.iter().map(|(name, value)| (own(name), own(value))).collect(),
            flags: flags
                .iter()
                .map(|(key, flag, value)| (own(key), own(flag), own(value)))
                .collect(),
        };
        let strip = |problem: &mut Problem| {
            if let Provenance::File { path, .. } = &mut problem.place {
                *path = "hub.toml".into();
            }
        };
        load(&inputs).map_err(|mut refused| {
            refused.problems.iter_mut().for_each(strip);
            refused
        })
    }

    const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn without_a_file_alerts_go_to_standard_output() {
        let loaded = load(&Inputs::default()).expect("defaults");
        assert_eq!(loaded.config.hub.listen.port(), 8321);
        assert_eq!(loaded.config.notify.destination.keys().collect::<Vec<_>>(), ["log"]);
        assert_eq!(loaded.place("hub.listen"), &Provenance::Nowhere);
    }

    #[test]
    fn flags_take_precedence_over_the_environment_and_that_over_the_file() {
        let text = "[hub]\nlisten = \"127.0.0.1:1\"\nmemory_days = 4\nquiet_after_secs = 60\n";
        let environment = [
            ("ROOTWATCH_HUB__LISTEN", "127.0.0.1:2"),
            ("ROOTWATCH_HUB__MEMORY_DAYS", "5"),
            ("ROOTWATCH_HUB__ORGANIZATION__ACCOUNTS", "[\"111122223333\"]"),
            ("ROOTWATCH_TOKEN__0__NAME", "a"),
            ("ROOTWATCH_TOKEN__0__SHA256", HASH),
            ("ROOTWATCH_TOKEN__0__SCOPES", "[\"read\", \"ingest\"]"),
            ("ROOTWATCH_ACCOUNT__0__ID", "222233334444"),
            ("ROOTWATCH_LOG", "debug"),
            ("OTHER_HUB__LISTEN", "127.0.0.1:4"),
        ];
        let flags = [("hub.listen", "--listen", "127.0.0.1:3")];
        let loaded = loaded(text, &environment, &flags).expect("sound");
        let hub = &loaded.config.hub;
        assert_eq!((hub.listen.port(), hub.memory_days, hub.quiet_after_secs), (3, 5, 60));
        assert_eq!(hub.organization.accounts, ["111122223333"]);
        assert_eq!(loaded.config.token[0].name, "a");
        // A text of digits stays a text where one is wanted.
        assert_eq!(loaded.config.account[0].id, "222233334444");
        assert_eq!(loaded.place("hub.listen").to_string(), "--listen");
        assert_eq!(loaded.place("hub.memory_days").to_string(), "ROOTWATCH_HUB__MEMORY_DAYS");
    }

    #[test]
    fn all_problems_are_reported_at_once_with_their_places() {
        let text = "\
[hub]
listn = \"127.0.0.1:1\"
memory_days = 0
quiet_after_secs = \"1h\"

[[token]]
name = \"a\"
sha256 = \"abc\"
scopes = [\"injest\"]

[sources]

[telemetry]
log_format = \"yaml\"
body_bytes_max = 1

[notify.destination.team]
channel = \"slak\"
";
        let environment = [("ROOTWATCH_LISTEN", "x"), ("ROOTWATCH_HUB__SHUTDOWN_SECS", "soon")];
        insta::assert_snapshot!(wrong(text, &environment, &[]), @r#"
        hub.toml:2:1: `hub.listn` is not a known key (did you mean `listen`?)
        hub.toml:3:15: `hub.memory_days` must be between 1 and 90
        hub.toml:4:20: `hub.quiet_after_secs` must be an integer, not a string
        hub.toml:9:11: `token[0].scopes[0]` must be one of `ingest`, `read`, `write` (did you mean `ingest`?)
        hub.toml:11:2: `sources` is not a known key (did you mean `source`?)
        hub.toml:14:14: `telemetry.log_format` must be one of `text`, `json`
        hub.toml:15:1: `telemetry.body_bytes_max` is not a known key (`body_bytes_max` is a key of `[hub]`)
        hub.toml:18:11: `notify.destination.team.channel` must be one of `email`, `eventbridge`, `log`, `ocsf`, `pagerduty`, `securityhub`, `servicenow`, `slack`, `sms`, `sns`, `teams`, `webhook`, `zendesk`
        ROOTWATCH_HUB__SHUTDOWN_SECS: `hub.shutdown_secs` must be an integer, not a string
        ROOTWATCH_LISTEN: `listen` is not a known key (`listen` is a key of `[hub]`)
        "#);
    }

    #[test]
    fn rules_beyond_types_are_checked() {
        let text = "\
hub.listen = \"0.0.0.0:8321\"
hub.organization.accounts = [\"1234\"]
hub.public_url = \"rootwatch.example.com\"

[[account]]
id = \"111122223333\"
[[account]]
id = \"111122223333\"

[source.sns]
topics = [\"root-events\"]
[[source.sqs]]
name = \"a\"
queue_url = \"root-events\"
[[source.sqs]]
name = \"a\"
queue_url = \"https://sqs.eu-west-1.amazonaws.com/111122223333/root-events\"

[rules]
dir = [\"no-such-folder\"]

[notify.destination.log]
channel = \"log\"
escalate_to = \"nobody\"

[telemetry]
log_level = \"rootwatch=loud\"
otlp_endpoint = \"127.0.0.1:4318\"
";
        let told = wrong(text, &[], &[]);
        // The folder is that of the file, which is a temporary one.
        let told: Vec<String> = told
            .lines()
            .map(|line| match line.split_once("cannot be used: /") {
                Some((before, _)) => format!("{before}cannot be used: [reason]"),
                None => line.to_owned(),
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        hub.toml:1:14: `hub.listen` accepts requests from other machines, but no [[token]] is configured (create one with `rootwatch token new NAME --scope ingest`, or listen on 127.0.0.1)
        hub.toml:2:30: `hub.organization.accounts[0]` must be an account id of 12 digits
        hub.toml:3:18: `hub.public_url` is not a URL: relative URL without a base
        hub.toml:8:6: `account[1].id` is also the id of another [[account]]
        hub.toml:11:11: `source.sns.topics[0]` must be the ARN of an SNS topic (such as arn:aws:sns:eu-west-1:111122223333:root-events)
        hub.toml:14:13: `source.sqs[0].queue_url` is not a URL: relative URL without a base
        hub.toml:16:8: `source.sqs[1].name` is also the name of another SQS source
        hub.toml:20:8: `rules.dir[0]` cannot be used: [reason]
        hub.toml:24:15: `notify.destination.log.escalate_to` `nobody` is not a configured destination (log)
        hub.toml:27:13: `telemetry.log_level` cannot be used: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5 (such as `info`, or `info,rootwatch_engine=debug`)
        hub.toml:28:17: `telemetry.otlp_endpoint` is not a URL: relative URL without a base
        "#);
    }

    #[test]
    fn tokens_are_checked() {
        let text = format!(
            "[[token]]\nname = \"a b\"\nsha256 = \"{HASH}\"\nscopes = []\n\
             [[token]]\nname = \"a b\"\nsha256 = \"{HASH}\"\nscopes = [\"read\"]\n"
        );
        insta::assert_snapshot!(wrong(&text, &[], &[]), @r#"
        hub.toml:1:1: `token` no token has the scope `ingest`, and there is no other source
        hub.toml:2:8: `token[0].name` must be 1 to 64 letters, digits, `-`, `_` and `.`
        hub.toml:4:10: `token[0].scopes` is empty: the token permits nothing (scopes are `ingest`, `read` and `write`)
        hub.toml:6:8: `token[1].name` must be 1 to 64 letters, digits, `-`, `_` and `.`
        hub.toml:6:8: `token[1].name` is also the name of another token
        hub.toml:7:10: `token[1].sha256` is also the hash of another token
        "#);
    }

    #[test]
    fn relative_paths_begin_at_the_files_folder_and_missing_folders_are_a_warning() {
        let text =
            "[[source.directory]]\nname = \"drop\"\npath = \"logs\"\n[store]\npath = \"h.db\"";
        let flags = [("store.path", "--store", "here.db")];
        let loaded = loaded(text, &[], &flags).expect("sound");
        assert!(loaded.config.source.directory[0].path.is_absolute());
        assert_eq!(loaded.config.store.path, Path::new("here.db"));
        assert_eq!(loaded.warnings.len(), 1);
        assert!(loaded.warnings[0].is_warning);
    }

    #[test]
    fn a_fetched_text_is_loaded_and_its_problems_have_its_name() {
        let inputs = |body: &str| {
            let body = Secret::new(body.to_owned());
            let file = ConfigFile::Text { name: "aws-ssm:/hub".to_owned(), body };
            Inputs { file: Some(file), ..Inputs::default() }
        };
        let loaded = load(&inputs("[hub]\nmemory_days = 4\n")).expect("valid");
        assert_eq!(loaded.config.hub.memory_days, 4);
        let refused = load(&inputs("[hub]\nmemory_days = 0\n")).expect_err("out of range");
        let problem = refused.problems[0].to_string();
        assert!(problem.starts_with("aws-ssm:/hub:2:15: `hub.memory_days`"), "{problem}");
        assert!(!format!("{:?}", inputs("hush")).contains("hush"));
    }

    #[test]
    fn a_problem_never_shows_a_value() {
        let text =
            "[notify.destination.a]\nchannel = \"webhook\"\nurl = [\"hush\"]\nurk = \"hush\"\n";
        let told = wrong(text, &[("ROOTWATCH_HUB__LISTEN", "hush")], &[]);
        assert!(!told.contains("hush"), "{told}");
    }
}
