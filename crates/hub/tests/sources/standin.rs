//! The AWS stand-in: one for all tests of this program, on a free loopback port.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use serde_json::Value;

/// The account that the stand-in is for these tests.
pub(crate) const ACCOUNT: &str = "111122223333";
/// Seconds until it has to answer; it takes two or three.
const START_SECS_MAX: u64 = 60;

static SHARED: LazyLock<Standin> = LazyLock::new(|| Standin::start(free_port()));

/// The stand-in that tests share; each has queues and buckets of its own.
pub(crate) async fn shared() -> &'static Standin {
    tokio::task::spawn_blocking(|| &*SHARED).await.expect("a stand-in")
}

static SHARED_MOTO: LazyLock<Standin> = LazyLock::new(|| Standin::start_moto(free_port()));

/// The second stand-in, moto, for services that the first one does not have.
pub(crate) async fn shared_moto() -> &'static Standin {
    tokio::task::spawn_blocking(|| &*SHARED_MOTO).await.expect("a stand-in")
}

/// A running stand-in. It ends when this is dropped, and when this process ends in any way.
pub(crate) struct Standin {
    python: PathBuf,
    process: Child,
    port: u16,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/aws")
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Installs it if it is not there; tests that run at once wait for one another.
fn python() -> PathBuf {
    let own = std::env::current_exe().expect("a program");
    // target/<profile>/deps/<this>
    let folder = own.ancestors().nth(3).expect("a target folder").join("aws-standin");
    let mut tried = Vec::new();
    for name in ["python3", "python", "py"] {
        let output = Command::new(name).arg(fixtures().join("set_up.py")).arg(&folder).output();
        match output {
            Ok(output) if output.status.success() => {
                return String::from_utf8(output.stdout).expect("UTF-8").trim().into();
            }
            Ok(output) => tried.push(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => tried.push(format!("{name}: {error}")),
        }
    }
    panic!("the AWS stand-in cannot be installed:\n{}", tried.join("\n"));
}

impl Standin {
    pub(crate) fn start(port: u16) -> Self {
        Self::start_script("standin.py", port, "/_ministack/health", &[])
    }

    /// The same, and what roles may do is enforced.
    pub(crate) fn start_with_iam(port: u16) -> Self {
        Self::start_script("standin.py", port, "/_ministack/health", &["iam"])
    }

    /// The same, and CloudTrail remembers the calls of each account and region.
    #[allow(dead_code, reason = "for the programs that share this file")]
    pub(crate) fn start_with_iam_and_cloud_trail(port: u16) -> Self {
        Self::start_script("standin.py", port, "/_ministack/health", &["iam", "cloudtrail"])
    }

    pub(crate) fn start_moto(port: u16) -> Self {
        Self::start_script("standin_moto.py", port, "/moto-api/", &[])
    }

    fn start_script(script: &str, port: u16, health: &str, more: &[&str]) -> Self {
        let python = python();
        let mut process = Command::new(&python)
            .arg(fixtures().join(script))
            .arg(port.to_string())
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        let begin = Instant::now();
        while !is_ready(port, health) {
            let ended = process.try_wait().expect("a process");
            assert!(ended.is_none(), "the stand-in ended: {ended:?}");
            assert!(begin.elapsed().as_secs() < START_SECS_MAX, "the stand-in does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { python, process, port }
    }

    pub(crate) fn endpoint(&self) -> String {
        endpoint(self.port)
    }

    pub(crate) fn sdk(&self) -> SdkConfig {
        sdk(self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its Python, with the client of AWS.
    #[allow(dead_code, reason = "for the programs that share this file")]
    pub(crate) fn python(&self) -> &Path {
        &self.python
    }

    /// A call for which there is no client here.
    pub(crate) async fn call(&self, service: &str, operation: &str, parameters: Value) -> Value {
        self.call_as("", service, operation, parameters).await
    }

    /// The same with a role's credentials; no role with those of the stand-in's own account.
    pub(crate) async fn call_as(
        &self,
        role: &str,
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Value {
        let place = [role, "", ""];
        self.python_call(place, service, operation, parameters).await
    }

    /// The same in an account and a region.
    pub(crate) async fn call_at(
        &self,
        (account, region): (&str, &str),
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Value {
        let place = ["", account, region];
        self.python_call(place, service, operation, parameters).await
    }

    async fn python_call(
        &self,
        place: [&str; 3],
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Value {
        let mut command = Command::new(&self.python);
        command.arg(fixtures().join("call.py"));
        command.args([&self.endpoint(), service, operation, &parameters.to_string()]);
        command.args(place);
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.expect("a call").expect("a process");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{service} {operation}: {told}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Creates CloudFormation stacks, one after the other, and gives their outputs; see
    /// `fixtures/aws/stacks.py` for the plan.
    pub(crate) async fn stacks(&self, plan: Value) -> Vec<BTreeMap<String, String>> {
        let mut command = Command::new(&self.python);
        command.arg(fixtures().join("stacks.py")).arg(self.endpoint());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = tokio::task::spawn_blocking(move || {
            let mut process = command.spawn().expect("a process");
            let mut stdin = process.stdin.take().expect("its standard input");
            stdin.write_all(plan.to_string().as_bytes()).expect("a reader");
            drop(stdin);
            process.wait_with_output().expect("a process")
        });
        let output = output.await.expect("stacks");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the stacks are not created: {told}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn endpoint(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// What the SDK would make of the environment, without looking at it.
pub(crate) fn sdk(port: u16) -> SdkConfig {
    sdk_at(port, (ACCOUNT, "us-east-1"))
}

/// The same in an account and a region: the stand-in takes an access key id of twelve digits for the
/// account.
pub(crate) fn sdk_at(port: u16, (account, region): (&str, &str)) -> SdkConfig {
    let credentials = Credentials::new(account, "none", None, None, "tests");
    let http = aws_smithy_http_client::Builder::new().build_http();
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .region(Region::new(region.to_owned()))
        .endpoint_url(endpoint(port))
        .http_client(http)
        .build()
}

fn is_ready(port: u16, health: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let ask = format!("GET {health} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes())?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}
