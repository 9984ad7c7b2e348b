//! User agents as people know them.

use super::format::service;
use super::layout::cap;

/// Columns that the short name of an unknown client may take.
const AGENT_COLUMNS_MAX: usize = 24;

/// What called, in a few words: `Chrome on Windows`, `AWS CLI`, `Terraform`. `None` when the record
/// states no user agent.
#[must_use]
pub fn agent(user_agent: Option<&str>) -> Option<String> {
    let text = user_agent?.trim();
    // Old records put brackets around the agent of a console page.
    let text = text.strip_prefix('[').unwrap_or(text);
    if text.is_empty() {
        return None;
    }
    if text == "AWS Internal" || text.starts_with("AWS-Internal") {
        return Some("AWS".to_owned());
    }
    if matches!(text, "signin.amazonaws.com" | "console.amazonaws.com") || text == "AWS Console" {
        return Some("console".to_owned());
    }
    if text.starts_with("S3Console") {
        return Some("S3 console".to_owned());
    }
    if text.ends_with(".amazonaws.com") {
        return Some(service(text).into_owned());
    }
    for (mark, name) in CLIENTS {
        if text.contains(mark) {
            let kali = name == "AWS CLI" && text.to_ascii_lowercase().contains("kali");
            return Some(if kali { format!("{name} on Kali Linux") } else { name.to_owned() });
        }
    }
    if text.starts_with("Mozilla/") {
        return Some(browser(text));
    }
    let product = text.split([' ', '/', '(']).next().unwrap_or(text);
    Some(cap(if product.is_empty() { text } else { product }, AGENT_COLUMNS_MAX))
}

/// Marks in a user agent and what they mean, the more telling first: Terraform also names its SDK,
/// CloudShell also names the CLI.
const CLIENTS: [(&str, &str); 26] = [
    ("Terraform", "Terraform"),
    ("OpenTofu", "OpenTofu"),
    ("pulumi", "Pulumi"),
    ("CloudShell", "CloudShell"),
    ("AWSPowerShell", "AWS Tools for PowerShell"),
    ("aws-cli/", "AWS CLI"),
    ("Boto3/", "Boto3"),
    ("Botocore/", "Botocore"),
    ("aws-sdk-go", "AWS SDK for Go"),
    ("aws-sdk-java", "AWS SDK for Java"),
    ("aws-sdk-kotlin", "AWS SDK for Kotlin"),
    ("aws-sdk-js", "AWS SDK for JavaScript"),
    ("aws-sdk-nodejs", "AWS SDK for JavaScript"),
    ("aws-sdk-php", "AWS SDK for PHP"),
    ("aws-sdk-ruby", "AWS SDK for Ruby"),
    ("aws-sdk-rust", "AWS SDK for Rust"),
    ("aws-sdk-swift", "AWS SDK for Swift"),
    ("aws-sdk-cpp", "AWS SDK for C++"),
    ("aws-sdk-dotnet", "AWS SDK for .NET"),
    ("aws-sdk-iOS", "AWS SDK for iOS"),
    ("AWSConsoleMobile", "AWS mobile app"),
    ("python-requests/", "python-requests"),
    ("Python-urllib", "Python urllib"),
    ("Go-http-client", "a Go program"),
    ("curl/", "curl"),
    ("Wget/", "Wget"),
];

fn browser(text: &str) -> String {
    let find = |marks: &[(&str, &'static str)]| {
        marks.iter().find(|(mark, _)| text.contains(mark)).map(|(_, name)| *name)
    };
    let name = find(&[
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("HeadlessChrome/", "headless Chrome"),
        ("Chrome/", "Chrome"),
        ("CriOS/", "Chrome"),
        ("FxiOS/", "Firefox"),
        ("Safari/", "Safari"),
    ]);
    let system = find(&[
        ("Windows", "Windows"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Android", "Android"),
        ("Mac OS X", "macOS"),
        ("CrOS", "ChromeOS"),
        ("Linux", "Linux"),
    ]);
    match (name, system) {
        (Some(name), Some(system)) => format!("{name} on {system}"),
        (Some(name), None) => name.to_owned(),
        (None, Some(system)) => format!("browser on {system}"),
        (None, None) => "browser".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_short_names() {
        let short = |text: &str| agent(Some(text)).unwrap_or_default();
        let chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like \
                      Gecko) Chrome/124.0.0.0 Safari/537.36";
        assert_eq!(short(chrome), "Chrome on Windows");
        assert_eq!(
            short("aws-cli/2.15.0 Python/3.11.6 Linux/6.5.0-kali3"),
            "AWS CLI on Kali Linux"
        );
        assert_eq!(short("aws-cli/2.15.0 Python/3.11.6 Linux/6.5.0"), "AWS CLI");
        assert_eq!(short("Boto3/1.34.0 md/Botocore#1.34.0"), "Boto3");
        assert_eq!(short("APN/1.0 HashiCorp/1.0 Terraform/1.8.0 aws-sdk-go-v2/1.26"), "Terraform");
        assert_eq!(short("signin.amazonaws.com"), "console");
        assert_eq!(short("cloudtrail.amazonaws.com"), "cloudtrail");
        assert_eq!(short("\u{1b}[2J"), "\\u{1b}[2J");
        assert_eq!(agent(None), None);
        assert_eq!(agent(Some("  ")), None);
    }
}
