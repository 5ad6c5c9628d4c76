//! The header in the tree is what cbindgen makes of the source. `MATRIX_HEADER=write cargo test -p
//! atomic-matrix-c --test header` makes it anew.

use std::path::Path;

#[test]
fn the_header_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("it is a configuration");
    let sources = [
        "lib", "status", "segment", "block", "message", "name", "channel", "topic", "board", "map", "service",
        "stream", "event", "readable",
    ];
    let builder = cbindgen::Builder::new().with_config(config);
    let made = sources.iter().fold(builder, |builder, name| builder.with_src(root.join(format!("src/{name}.rs"))));
    let mut header = vec![];
    made.generate().expect("the source is Rust").write(&mut header);
    let kept = root.join("include/atomic_matrix.h");
    if std::env::var("MATRIX_HEADER").is_ok_and(|what| what == "write") {
        std::fs::write(&kept, &header).expect("the tree can be written");
    }
    let kept = std::fs::read(&kept).unwrap_or_default();
    assert!(
        kept == header,
        "include/atomic_matrix.h is not what cbindgen makes of src; make it anew, see the head of this file"
    );
}
