//! What the fuzz targets have found, and what they start from, is replayed.

#[path = "../../fuzz/checks.rs"]
#[allow(unreachable_pub, reason = "a crate of its own in the fuzz targets")]
mod checks;

use std::{fs, path::Path};

type Check = fn(&[u8]);

#[test]
fn every_input_of_the_corpus_passes_its_check() {
    let targets: [(&str, Check); 5] = [
        ("envelope", checks::envelope),
        ("lines", checks::lines),
        ("sse", checks::sse),
        ("config", checks::config),
        ("headers", checks::headers),
    ];
    for (name, check) in targets {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!inputs.is_empty(), "{} is empty", folder.display());
        for input in inputs {
            check(&fs::read(&input).unwrap());
        }
    }
}
