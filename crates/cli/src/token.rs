//! `rootwatch token new`.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use rootwatch_core::hex;

use crate::args::{ScopeArg, TokenCommand};
use crate::report::{Failed, Hint};

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// Longest name of a token in bytes, as in the configuration.
const NAME_BYTES_MAX: usize = 64;

pub(crate) fn run(command: TokenCommand) -> anyhow::Result<ExitCode> {
    let TokenCommand::New { name, scope } = command;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        return Err(Hint::error(
            "invalid name of a token",
            format!("use 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`"),
        ));
    }
    let mut scopes = Vec::new();
    for one in scope {
        if !scopes.contains(&one) {
            scopes.push(one);
        }
    }
    let (token, sha256) = create()?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", block(&name, &scopes, &token, &sha256))?;
    Ok(ExitCode::SUCCESS)
}

/// Creates a token; returns it and its SHA-256.
pub(crate) fn create() -> anyhow::Result<(String, String)> {
    let mut bytes = [0; TOKEN_BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("the system has no random bytes"))
        .context(Failed::to("create a token"))?;
    let token = format!("rw_{}", hex::encode(&bytes));
    let sha256 = hash(&token);
    Ok((token, sha256))
}

fn hash(token: &str) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref())
}

fn block(name: &str, scopes: &[ScopeArg], token: &str, sha256: &str) -> String {
    let scopes: Vec<String> = scopes.iter().map(|one| format!("\"{}\"", one.name())).collect();
    format!(
        "# The token, shown only now; send it as `Authorization: Bearer <token>`:\n\
         # {token}\n\n\
         [[token]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\nscopes = [{}]",
        scopes.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_have_their_own_hash() {
        // The first example of FIPS 180-2.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash("abc"), abc);
        let (one, other) = (create().expect("a token"), create().expect("a token"));
        assert_eq!(hash(&one.0), one.1);
        assert!(one.0 != other.0 && one.0.len() == 3 + 64);
    }
}
