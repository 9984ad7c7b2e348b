//! The certificate with which SNS signs its messages: whom it was issued for, when it is valid, and
//! the signature.

use jiff::Timestamp;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
};
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION;
use x509_parser::pem::parse_x509_pem;

use super::verify::{Digest, Fault, SnsMessage, TopicLocation, distrust};

/// What a signing certificate says.
///
/// Its chain is not built: who it is from is known because it was fetched by TLS from SNS's own
/// host in the topic's region, whose certificate was verified against the system's roots, without a
/// redirect. Only AWS can put a file there, and whoever could could as well have AWS sign. What a
/// chain would add, that the certificate was made for SNS, is checked by its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    /// RSA public key, as PKCS #1 has it.
    key: Vec<u8>,
    names: Vec<String>,
    /// Seconds since 1970.
    valid_from: i64,
    valid_until: i64,
}

impl Certificate {
    /// Of the first certificate in PEM text. `Err` says why not.
    pub(super) fn read(pem: &[u8]) -> Result<Self, String> {
        let (_, pem) = parse_x509_pem(pem).map_err(|_| "it is not PEM".to_owned())?;
        let parsed = pem.parse_x509().map_err(|_| "it is not an X.509 certificate".to_owned())?;
        let key = parsed.public_key();
        if key.algorithm.algorithm != OID_PKCS1_RSAENCRYPTION {
            return Err("its key is not RSA".to_owned());
        }
        let mut names: Vec<String> = parsed
            .subject()
            .iter_common_name()
            .filter_map(|name| name.as_str().ok())
            .map(str::to_owned)
            .collect();
        if let Ok(Some(others)) = parsed.subject_alternative_name() {
            names.extend(others.value.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            }));
        }
        Ok(Self {
            key: key.subject_public_key.data.to_vec(),
            names,
            valid_from: parsed.validity().not_before.timestamp(),
            valid_until: parsed.validity().not_after.timestamp(),
        })
    }

    /// Checks that the certificate was issued for SNS in this region and is valid at `now`.
    pub(super) fn check(&self, place: &TopicLocation, now: Timestamp) -> Result<(), Fault> {
        if !self.names.iter().any(|name| place.signs_as(name)) {
            let text = "the signing certificate was not made for SNS";
            return Err(distrust("certificate_name", text));
        }
        if !(self.valid_from..=self.valid_until).contains(&now.as_second()) {
            let text = "the signing certificate is expired or not valid yet";
            return Err(distrust("certificate_expired", text));
        }
        Ok(())
    }

    /// Checks the signature of the message.
    pub(super) fn verify(&self, message: &SnsMessage) -> Result<(), Fault> {
        let algorithm = match message.digest {
            Digest::Sha1 => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            Digest::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
        };
        UnparsedPublicKey::new(algorithm, &self.key)
            .verify(message.canonical().as_bytes(), &message.signature)
            .map_err(|_| distrust("signature", "`Signature` does not match the message"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_a_certificate_is_refused() {
        assert!(Certificate::read(b"").is_err());
        assert!(
            Certificate::read(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
                .is_err()
        );
    }
}
