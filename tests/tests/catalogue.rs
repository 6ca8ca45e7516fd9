//! The manifests that come with the project are sound, and their pages are what they say.

use serde_json::json;

use crate::harness::{Installation, component, root};

const FEWEST: usize = 12;

#[test]
fn every_manifest_of_the_catalogue_is_sound_and_its_page_is_fresh() {
    let installation = Installation::new(json!({}), json!({ "rest_component": component("rest") }));
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("plugins/rest/manifests")).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        count += 1;
        let file = folder.join("manifest.yaml");
        let manifest = file.to_str().unwrap();
        // It succeeds where there are no errors.
        let findings = &installation.json(&["manifest", "lint", manifest])["findings"];
        assert!(findings.as_array().unwrap().iter().all(|found| found["level"] != "error"), "{manifest}: {findings}");
        let page = std::fs::read_to_string(folder.join("README.md")).unwrap();
        let about = installation.json(&["manifest", "about", manifest]);
        assert_eq!(about["docs"], page, "{manifest}: run plugins/rest/manifests/regenerate");
    }
    assert!(count >= FEWEST, "{count}");
}
