//! Which addresses a message may be sent to.
//!
//! Who may write a URL into the configuration, or answers for a name in the DNS, must not reach the
//! hub's own network with it: cloud metadata, admin pages, databases. Every address that a name
//! resolves to is looked at when the connection is made, so that a name that changes its mind
//! between check and use gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Addresses of IPv4 that are nobody's on the internet. IANA's special-purpose registry.
const FORBIDDEN_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
];

/// The only part of IPv6 that is given out for use on the internet.
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Parts of it that are not: protocol assignments with Teredo, documentation, 6to4.
const FORBIDDEN_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// 64:ff9b::/96, under which a translator reaches IPv4.
const TRANSLATED_V4: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// True for an address on the internet.
#[must_use]
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => {
            if let Some(mapped) = address.to_ipv4_mapped() {
                return is_public_v4(mapped);
            }
            if holds_v6(TRANSLATED_V4, address) {
                let bits = address.to_bits() as u32;
                return is_public_v4(Ipv4Addr::from_bits(bits));
            }
            holds_v6(GLOBAL_V6, address) && !FORBIDDEN_V6.iter().any(|net| holds_v6(*net, address))
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !FORBIDDEN_V4
        .iter()
        .any(|(net, bits)| Ipv4Net::new(*net, *bits).is_ok_and(|net| net.contains(&address)))
}

fn holds_v6((net, bits): (Ipv6Addr, u8), address: Ipv6Addr) -> bool {
    Ipv6Net::new(net, bits).is_ok_and(|net| net.contains(&address))
}

/// A name that leads to an address which is not on the internet.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct AddressRefused(String);

/// Resolves names to addresses on the internet only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            if let Some(hidden) = found.iter().find(|address| !is_public(address.ip())) {
                let host = rootwatch_core::text::cap(host, 100);
                return Err(AddressRefused(refusal(&host, hidden.ip())).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

pub(crate) fn refusal(host: &str, address: IpAddr) -> String {
    format!(
        "{host} is at {address}, which is not on the internet; `allow_private = true` allows it"
    )
}
