//! `rootwatch demo`.

use crate::hub::{Going, hub_program};

#[test]
fn the_story_is_told_to_its_end_anywhere() {
    let folder = tempfile::tempdir().expect("an empty folder");
    let mut command = hub_program();
    command.current_dir(folder.path()).args(["demo", "--once", "--speed", "fast"]);
    let (code, said) = Going::start(&mut command).end();
    let text = said.join("\n");
    assert_eq!(code, 0, "{text}");
    // The break-in, its end, the attempts on all accounts, and the audit in the digest.
    for told in
        ["CRITICAL", "222233334444", "prod-payments", "203.0.113.77", "Demo finished: 3 incidents"]
    {
        assert!(text.contains(told), "{told}\n{text}");
    }
    assert!(text.contains("3 incidents"), "{text}");
    for line in &said {
        assert!(line.chars().count() <= 100, "{line}");
    }
    // Nothing is left where it was started.
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn it_stays_up_to_be_looked_at_until_it_is_asked_to_end() {
    let mut demo = Going::start(hub_program().args(["demo", "--speed", "fast"]));
    let address = demo.address();
    demo.line_with("Ctrl-C stops it");
    demo.line_with("TOKEN=rw_");
    assert!(std::net::TcpStream::connect(address).is_ok());
    demo.terminate();
    assert_eq!(demo.end().0, 0);
}
