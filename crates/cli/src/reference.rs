//! Prints completions, man pages and the generated reference pages, from the declaration in `args.rs`
//! and the schema of the configuration.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;

use crate::args::{Cli, ReferenceOf};

pub(crate) fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "rootwatch", &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man(dir: Option<&Path>) -> anyhow::Result<ExitCode> {
    let command = Cli::command();
    match dir {
        Some(dir) => {
            std::fs::create_dir_all(dir)
                .with_context(|| format!("cannot create {}", dir.display()))?;
            clap_mangen::generate_to(command, dir)
                .with_context(|| format!("cannot write man pages to {}", dir.display()))?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            io::stdout().write_all(&page)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One page of `docs/reference/`, as Markdown.
pub(crate) fn markdown(of: ReferenceOf) -> anyhow::Result<ExitCode> {
    let page = match of {
        ReferenceOf::Cli => None,
        ReferenceOf::Config => Some(rootwatch_hub::config::reference()),
        ReferenceOf::Channels => Some(rootwatch_hub::config::channels_reference()),
        ReferenceOf::Metrics => Some(rootwatch_hub::metrics::metrics_reference()),
        ReferenceOf::Permissions => Some(rootwatch_hub::permissions::permissions_reference(
            rootwatch_scan::permissions::PERMISSIONS,
        )),
    };
    if let Some(page) = page {
        io::stdout().write_all(page.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::from(
        "# The commands\n\nGenerated from the program (`cargo xtask docs`); do not edit.\n",
    );
    let mut root = Cli::command().term_width(96);
    root.build();
    section(&mut text, &mut root)?;
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn section(text: &mut String, command: &mut clap::Command) -> anyhow::Result<()> {
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let help = command.render_long_help().to_string();
    write!(text, "\n## `{name}`\n\n```text\n")?;
    for line in help.trim_end().lines() {
        writeln!(text, "{}", line.trim_end())?;
    }
    text.push_str("```\n");
    let names: Vec<_> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
        .map(|sub| sub.get_name().to_owned())
        .collect();
    for name in names {
        if let Some(sub) = command.find_subcommand_mut(&name) {
            section(text, sub)?;
        }
    }
    Ok(())
}
