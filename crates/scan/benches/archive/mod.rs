//! An archive of log files to measure on: ordinary traffic, file sizes as uneven as real ones, one
//! record in 20,000 by the root user and one in 500 that only looks like it. The same bytes each
//! time.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write, copy};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

/// A generator of numbers that is the same on every machine (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Log-normal, as the sizes of delivered log files are.
    fn records_in_file(&mut self) -> u64 {
        let normal = (-2.0 * self.unit().max(1e-12).ln()).sqrt()
            * (std::f64::consts::TAU * self.unit()).cos();
        ((300_f64.ln() - 0.98 + 1.4 * normal).exp() as u64).clamp(1, 20_000)
    }

    fn hex(&mut self, digits: usize) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())[..digits].to_owned()
    }

    fn uuid(&mut self) -> String {
        let hex = self.hex(32);
        format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
    }
}

const REGIONS: [&str; 5] = ["us-east-1", "us-east-1", "us-west-2", "eu-west-1", "ap-southeast-2"];
const CALLS: [(&str, &str, &str); 12] = [
    ("ec2", "DescribeInstances", "true"),
    ("ec2", "DescribeSecurityGroups", "true"),
    ("kms", "Decrypt", "true"),
    ("kms", "GenerateDataKey", "true"),
    ("sts", "AssumeRole", "true"),
    ("s3", "GetBucketLocation", "true"),
    ("s3", "PutObject", "false"),
    ("ssm", "UpdateInstanceInformation", "false"),
    ("iam", "ListAttachedRolePolicies", "true"),
    ("logs", "CreateLogStream", "false"),
    ("autoscaling", "DescribeAutoScalingGroups", "true"),
    ("kms", "PutKeyPolicy", "false"),
];
const ROLES: [&str; 6] =
    ["ci-deploy", "eks-node-group-prod", "backup-service", "terraform-apply", "audit", "orders"];
const AGENTS: [&str; 4] = [
    "APN/1.0 HashiCorp/1.0 Terraform/1.9.0 (+https://www.terraform.io) terraform-provider-aws/5.60.0 (+https://registry.terraform.io/providers/hashicorp/aws) aws-sdk-go-v2/1.30.0 os/linux lang/go#1.22.4",
    "Boto3/1.34.51 md/Botocore#1.34.51 ua/2.0 os/linux#5.10.209 md/arch#x86_64 lang/python#3.11.6 md/pyimpl#CPython cfg/retry-mode#standard Botocore/1.34.51",
    "aws-sdk-java/2.25.1 Linux/5.10.205 OpenJDK_64-Bit_Server_VM/17.0.9+9-LTS Java/17.0.9 vendor/Amazon.com_Inc. io/sync http/Apache cfg/retry-mode/standard",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
];

fn record(numbers: &mut Numbers, account: &str, region: &str, out: &mut String) {
    use std::fmt::Write as _;
    let minute = numbers.below(60);
    let at = format!("2026-05-04T10:{minute:02}:{:02}Z", numbers.below(60));
    let (service, call, read_only) = CALLS[numbers.below(CALLS.len() as u64) as usize];
    let (mut call, mut parameters) = (call, String::from("null"));
    let identity = match numbers.below(20_000) {
        0 => format!(
            r#"{{"type":"Root","principalId":"{account}","arn":"arn:aws:iam::{account}:root","accountId":"{account}","accessKeyId":"ASIAIOSFODNN7EXAMPLE","sessionContext":{{"sessionIssuer":{{}},"attributes":{{"creationDate":"{at}","mfaAuthenticated":"true"}}}}}}"#
        ),
        1..=40 => {
            call = "ListParents";
            parameters =
                String::from(r#"{"type":"Root","parents":[{"id":"r-ab12","type":"Root"}]}"#);
            format!(
                r#"{{"type":"IAMUser","arn":"arn:aws:iam::{account}:user/Root","accountId":"{account}","userName":"Root"}}"#
            )
        }
        n if n % 6 == 0 => {
            r#"{"type":"AWSService","invokedBy":"autoscaling.amazonaws.com"}"#.to_owned()
        }
        _ => {
            let role = numbers.pick(&ROLES);
            let session = numbers.hex(17);
            format!(
                r#"{{"type":"AssumedRole","principalId":"AROAEXAMPLE{role}:i-0{session}","arn":"arn:aws:sts::{account}:assumed-role/{role}/i-0{session}","accountId":"{account}","accessKeyId":"ASIA{}","sessionContext":{{"sessionIssuer":{{"type":"Role","principalId":"AROAEXAMPLE{role}","arn":"arn:aws:iam::{account}:role/{role}","accountId":"{account}","userName":"{role}"}},"webIdFederationData":{{}},"attributes":{{"creationDate":"{at}","mfaAuthenticated":"false"}}}}}}"#,
                numbers.hex(16).to_uppercase(),
            )
        }
    };
    if parameters == "null" {
        parameters = match call {
            "PutKeyPolicy" => format!(
                r#"{{"keyId":"{}","policyName":"default","policy":"{{\"Version\":\"2012-10-17\",\"Statement\":[{{\"Effect\":\"Allow\",\"Principal\":{{\"AWS\":\"arn:aws:iam::{account}:root\"}},\"Action\":[\"kms:*\"],\"Resource\":\"*\"}}]}}","bypassPolicyLockoutSafetyCheck":false}}"#,
                numbers.uuid()
            ),
            _ => format!(
                r#"{{"maxResults":1000,"resourceId":"{}","filterSet":{{"items":[{{"name":"vpc-id","valueSet":{{"items":[{{"value":"vpc-0{}"}}]}}}},{{"name":"tag:kubernetes.io/cluster/prod","valueSet":{{"items":[{{"value":"owned"}}]}}}}]}}}}"#,
                numbers.hex(17),
                numbers.hex(17)
            ),
        };
    }
    let _ = write!(
        out,
        r#"{{"eventVersion":"1.11","userIdentity":{identity},"eventTime":"{at}","eventSource":"{service}.amazonaws.com","eventName":"{call}","awsRegion":"{region}","sourceIPAddress":"198.51.100.{}","userAgent":"{}","requestParameters":{parameters},"responseElements":null,"requestID":"{}","eventID":"{}","readOnly":{read_only},"resources":[{{"accountId":"{account}","type":"AWS::KMS::Key","ARN":"arn:aws:kms:{region}:{account}:key/{}"}}],"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"{account}","eventCategory":"Management","tlsDetails":{{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"{service}.{region}.amazonaws.com"}}}}"#,
        numbers.below(256),
        numbers.pick(&AGENTS),
        numbers.uuid(),
        numbers.uuid(),
        numbers.uuid(),
    );
}

fn log_file(numbers: &mut Numbers, account: &str, region: &str, records: u64, out: &mut String) {
    out.clear();
    out.push_str("{\"Records\":[");
    for index in 0..records {
        if index > 0 {
            out.push(',');
        }
        record(numbers, account, region, out);
    }
    out.push_str("]}");
}

/// Makes an archive in the S3 layout of about so many raw bytes.
pub(crate) fn make(folder: &Path, raw_bytes: usize) {
    let mut numbers = Numbers(1);
    let mut text = String::new();
    let mut made = 0;
    while made < raw_bytes {
        let account = format!("{:012}", 100_000_000_000 + numbers.below(40));
        let region = numbers.pick(&REGIONS);
        let day = 1 + numbers.below(28);
        let records = numbers.records_in_file();
        log_file(&mut numbers, &account, region, records, &mut text);
        made += text.len();
        let place = folder
            .join(format!("AWSLogs/o-exampleorgid/{account}/CloudTrail/{region}/2026/05/{day:02}"));
        fs::create_dir_all(&place).unwrap();
        let name = format!(
            "{account}_CloudTrail_{region}_202605{day:02}T{:02}{:02}Z_{}.json.gz",
            numbers.below(24),
            numbers.below(60),
            numbers.hex(16)
        );
        let file = File::create(place.join(name)).unwrap();
        let mut gzip = GzEncoder::new(BufWriter::new(file), Compression::new(6));
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap().flush().unwrap();
    }
}

/// Makes one uncompressed log file of about so many bytes.
pub(crate) fn make_one(path: &Path, raw_bytes: usize) {
    let mut numbers = Numbers(2);
    let mut file = BufWriter::new(File::create(path).unwrap());
    let mut text = String::new();
    let mut made = 0;
    file.write_all(b"{\"Records\":[").unwrap();
    while made < raw_bytes {
        text.clear();
        if made > 0 {
            text.push(',');
        }
        record(&mut numbers, "111122223333", "us-east-1", &mut text);
        made += text.len();
        file.write_all(text.as_bytes()).unwrap();
    }
    file.write_all(b"]}").unwrap();
    file.flush().unwrap();
}

/// Compresses a file.
pub(crate) fn compress(from: &Path, to: &Path) {
    let mut gzip = GzEncoder::new(BufWriter::new(File::create(to).unwrap()), Compression::new(6));
    copy(&mut BufReader::new(File::open(from).unwrap()), &mut gzip).unwrap();
    gzip.finish().unwrap().flush().unwrap();
}
