//! An organisation on the stand-in: hub and spokes created from the templates that are shipped.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_sdk_s3::primitives::ByteStream;
use serde_json::{Value, json};

use crate::standin::{Standin, sdk_at};

/// The account of the hub.
pub(crate) const HUB: &str = "111122223333";
/// The accounts of the organisation, the hub's among them.
pub(crate) const ACCOUNTS: [&str; 3] = [HUB, "222233334444", "333344445555"];
/// The region of the hub.
pub(crate) const HUB_REGION: &str = "eu-west-1";
/// The regions of the organisation: the hub's, and the one of sign-ins.
pub(crate) const REGIONS: [&str; 2] = [HUB_REGION, "us-east-1"];
/// What the bucket for the package is called.
const CODE_BUCKET: &str = "rootwatch-code";
/// How long a message may take; it takes milliseconds.
const RECEIVE_SECS_MAX: u64 = 30;

/// The text of a template below `deploy/`.
pub(crate) fn template(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A spoke's stack for [`Standin::stacks`].
pub(crate) fn spoke((account, region): (&str, &str)) -> Value {
    json!({
        "account": account, "region": region, "name": "rootwatch-spoke",
        "template": template("spoke/rootwatch-spoke.yaml"),
        "parameters": { "HubAccountId": HUB, "HubRegion": HUB_REGION },
    })
}

/// The hub's stack for [`Standin::stacks`]. Its package has to be in [`put_package`]'s place.
///
/// Without an archive: MiniStack has none.
pub(crate) fn hub(parameters: &[(&str, &str)]) -> Value {
    let mut all = json!({
        "OrganizationId": "o-exampleorgid",
        "CodeBucket": CODE_BUCKET,
        "CodeKey": "package.zip",
        "Architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" },
        "ArchiveDays": "0",
    });
    for (key, value) in parameters {
        all[key] = json!(value);
    }
    json!({
        "account": HUB, "region": HUB_REGION, "name": "rootwatch-hub",
        "template": template("hub/rootwatch-hub.yaml"),
        "parameters": all,
    })
}

/// Puts the function's package where the hub's stack looks for it.
pub(crate) async fn put_package(standin: &Standin, zip: Vec<u8>) {
    let config = sdk_at(standin.port(), (HUB, HUB_REGION));
    let config = aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build();
    let s3 = aws_sdk_s3::Client::from_conf(config);
    let place = aws_sdk_s3::types::CreateBucketConfiguration::builder()
        .location_constraint(HUB_REGION.into())
        .build();
    s3.create_bucket()
        .bucket(CODE_BUCKET)
        .create_bucket_configuration(place)
        .send()
        .await
        .expect("a bucket");
    s3.put_object()
        .bucket(CODE_BUCKET)
        .key("package.zip")
        .body(ByteStream::from(zip))
        .send()
        .await
        .expect("an object");
}

/// The package that `cargo xtask package --fast` makes, for this machine's processor.
pub(crate) fn package() -> Vec<u8> {
    let own = std::env::current_exe().expect("a program");
    // target/<profile>/deps/<this>
    let target: PathBuf = own.ancestors().nth(3).expect("a target folder").to_owned();
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
    let path = target.join("package-fast").join(format!("rootwatch-lambda-{arch}.zip"));
    std::fs::read(&path).unwrap_or_else(|error| {
        let path = Path::new("target/package-fast").join(path.file_name().unwrap_or_default());
        panic!(
            "{}: {error}; make it with `cargo xtask package --arch {arch} --fast`",
            path.display()
        )
    })
}

/// A zip archive that holds one stored file: what a stack without a consumer needs of a package.
pub(crate) fn empty_package() -> Vec<u8> {
    let (name, body) = (b"bootstrap", b"#!/bin/sh\n");
    let checksum = {
        let mut crc = flate2::Crc::new();
        crc.update(body);
        crc.sum()
    };
    let mut zip = Vec::new();
    // Local header, central directory, end record, as PKWARE's APPNOTE gives them.
    let common = |out: &mut Vec<u8>| {
        out.extend([10, 0, 0, 0, 0, 0, 0, 0, 0x21, 0]);
        out.extend(checksum.to_le_bytes());
        out.extend((body.len() as u32).to_le_bytes());
        out.extend((body.len() as u32).to_le_bytes());
        out.extend((name.len() as u16).to_le_bytes());
        out.extend([0, 0]);
    };
    zip.extend(b"PK\x03\x04");
    common(&mut zip);
    zip.extend(name);
    zip.write_all(body).expect("memory");
    let directory = zip.len();
    zip.extend(b"PK\x01\x02\x14\x03");
    common(&mut zip);
    zip.extend([0; 6]);
    zip.extend(0o100_755_u32.wrapping_shl(16).to_le_bytes());
    zip.extend(0_u32.to_le_bytes());
    zip.extend(name);
    let size = zip.len() - directory;
    zip.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    zip.extend((size as u32).to_le_bytes());
    zip.extend((directory as u32).to_le_bytes());
    zip.extend([0, 0]);
    zip
}

/// Puts one event on the default bus of an account and region, as CloudTrail's would come.
pub(crate) async fn put_event(
    standin: &Standin,
    place: (&str, &str),
    source: &str,
    detail_type: &str,
    detail: &Value,
) {
    put_event_on(standin, place, "default", source, detail_type, detail).await;
}

/// The same on any bus.
pub(crate) async fn put_event_on(
    standin: &Standin,
    place: (&str, &str),
    bus: &str,
    source: &str,
    detail_type: &str,
    detail: &Value,
) {
    let entry = json!({
        "Source": source, "DetailType": detail_type, "Detail": detail.to_string(),
        "EventBusName": bus,
    });
    let reply = standin.call_at(place, "events", "put_events", json!({ "Entries": [entry] })).await;
    assert_eq!(reply["FailedEntryCount"], 0, "{reply}");
}

/// What the hub's queue holds: received until there are `count` messages, and then until a long poll
/// brings nothing more. Messages are deleted.
pub(crate) async fn receive(standin: &Standin, queue_url: &str, count: usize) -> Vec<Value> {
    let sqs = aws_sdk_sqs::Client::new(&sdk_at(standin.port(), (HUB, HUB_REGION)));
    let begin = Instant::now();
    let mut all = Vec::new();
    loop {
        let wait = if all.len() < count { 5 } else { 1 };
        let reply = sqs
            .receive_message()
            .queue_url(queue_url)
            .max_number_of_messages(10)
            .wait_time_seconds(wait)
            .send()
            .await
            .expect("a reply");
        let messages = reply.messages.unwrap_or_default();
        if messages.is_empty() && all.len() >= count {
            return all;
        }
        for message in messages {
            let body = message.body.expect("a body");
            all.push(serde_json::from_str(&body).expect("an event"));
            let receipt = message.receipt_handle.expect("a receipt");
            let deleted = sqs.delete_message().queue_url(queue_url).receipt_handle(receipt);
            deleted.send().await.expect("a reply");
        }
        let is_late = begin.elapsed() > Duration::from_secs(RECEIVE_SECS_MAX);
        assert!(!is_late, "{} of {count} messages came", all.len());
    }
}

/// The hub, and a spoke in every account and region. Gives the hub's outputs.
pub(crate) async fn organisation(
    standin: &Standin,
    parameters: &[(&str, &str)],
    package: Vec<u8>,
) -> BTreeMap<String, String> {
    put_package(standin, package).await;
    let mut plan = vec![hub(parameters)];
    for account in ACCOUNTS {
        plan.extend(REGIONS.map(|region| spoke((account, region))));
    }
    standin.stacks(Value::Array(plan)).await.swap_remove(0)
}
