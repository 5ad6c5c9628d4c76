//! Builds the C++ shims of Boost's message queue and map where Boost is installed. Never fails.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=shims");
    // Debian's install comes and goes.
    println!("cargo:rerun-if-changed=/usr/include/boost/version.hpp");
    println!("cargo:rustc-check-cfg=cfg(boost)");
    let mut build = cc::Build::new();
    build.cpp(true).warnings(false).cargo_warnings(false);
    build.files(["shims/message_queue.cpp", "shims/unordered_map.cpp"]).std("c++17").opt_level(3);
    if build.try_compile("shim_boost").is_ok() {
        println!("cargo:rustc-cfg=boost");
    }
}
