//! The guide to all this, `docs/django.md`, taken at its word.

use std::process::Command;

/// The guide's whole example, which `pages` runs.
pub fn example() -> String {
    blocks().swap_remove(0)
}

/// Every configuration that the guide shows.
fn blocks() -> Vec<String> {
    let path = format!("{}/docs/django.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the guide");
    let parts = text.split("```toml\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn every_configuration_in_the_guide_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cloakroom.toml");
    let blocks = blocks();
    assert_eq!(blocks.len(), 11);
    for block in &blocks {
        let backend =
            if block.contains("[upstreams") { "" } else { "upstreams.app.servers = ['http://127.0.0.1:9']\n" };
        std::fs::write(&file, format!("{backend}{block}")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloakroom"));
        command.args(["check", "--offline", "--config"]).arg(&file).current_dir(directory.path());
        command.env("DJANGO_SECRET_KEY", "a key").env("DJANGO_OLD_SECRET_KEY", "an older key");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{block}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}
