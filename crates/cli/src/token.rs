//! `rootwatch token new`.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use rootwatch_core::hex;

use crate::args::{ScopeArg, TokenCommand};
use crate::{Failed, Hint};

/// Bytes of chance in a token.
const TOKEN_BYTES: usize = 32;
/// Bytes of a token's name at most, as the configuration has it.
const NAME_BYTES_MAX: usize = 64;

pub(crate) fn run(command: TokenCommand) -> anyhow::Result<ExitCode> {
    let TokenCommand::New { name, scope } = command;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        return Err(Hint::error(
            "this cannot be a token's name",
            format!("1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`"),
        ));
    }
    let mut scopes = Vec::new();
    for one in scope {
        if !scopes.contains(&one) {
            scopes.push(one);
        }
    }
    let (token, sha256) = make()?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", page(&name, &scopes, &token, &sha256))?;
    Ok(ExitCode::SUCCESS)
}

/// A new token and its hash.
pub(crate) fn make() -> anyhow::Result<(String, String)> {
    let mut bytes = [0; TOKEN_BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("the system gives no random bytes"))
        .context(Failed::to("make a token"))?;
    let token = format!("rw_{}", hex::encode(&bytes));
    let sha256 = hash(&token);
    Ok((token, sha256))
}

fn hash(token: &str) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref())
}

fn page(name: &str, scopes: &[ScopeArg], token: &str, sha256: &str) -> String {
    let scopes: Vec<String> = scopes.iter().map(|one| format!("\"{}\"", one.name())).collect();
    format!(
        "# The token, shown this once; its holder sends `Authorization: Bearer <token>`:\n\
         # {token}\n\n\
         [[token]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\nscopes = [{}]",
        scopes.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_token_and_no_two_tokens_are_alike() {
        // The first example of FIPS 180-2.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash("abc"), abc);
        let (one, other) = (make().expect("a token"), make().expect("a token"));
        assert_eq!(hash(&one.0), one.1);
        assert!(one.0 != other.0 && one.0.len() == 3 + 64);
    }
}
