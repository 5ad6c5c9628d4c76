//! Builds the C and C++ shims of what is installed, and says why the others are missing. Never fails.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=shims");
    // Debian's installs come and go.
    for path in ["/usr/include/boost/version.hpp", "/usr/include/dpdk/rte_config.h", "/usr/bin/c++", "/usr/bin/cc"] {
        println!("cargo:rerun-if-changed={path}");
    }
    for (peer, outcome) in [("boost", boost()), ("dpdk", dpdk())] {
        println!("cargo:rustc-check-cfg=cfg({peer})");
        match outcome {
            Ok(version) => {
                println!("cargo:rustc-cfg={peer}");
                println!("cargo:rustc-env=VERSION_{}={version}", peer.to_uppercase());
            }
            Err(why) => println!("cargo:rustc-env=WITHOUT_{}={}", peer.to_uppercase(), why.replace('\n', " ")),
        }
    }
}

fn shim(language: &str, cpp: bool) -> Result<cc::Build, String> {
    let mut build = cc::Build::new();
    build.cpp(cpp).warnings(false).cargo_warnings(false);
    match build.try_get_compiler() {
        Ok(compiler) if Command::new(compiler.path()).arg("--version").output().is_ok() => Ok(build),
        _ => Err(format!("no {language} compiler (benches/peers/install)")),
    }
}

/// Returns the version.
fn boost() -> Result<String, String> {
    let mut build = shim("C++", true)?;
    let without = "no Boost.Interprocess: the headers are missing (Debian: libboost-dev; benches/peers/install)";
    build
        .file("shims/boost.cpp")
        .std("c++17")
        .opt_level(3)
        .try_compile("shim_boost")
        .map_err(|_| without.to_owned())?;
    // As the preprocessor sees it: "1_74".
    let mut build = shim("C++", true)?;
    let probe = std::path::Path::new(&std::env::var("OUT_DIR").unwrap_or_default()).join("version.cpp");
    std::fs::write(&probe, "#include <boost/version.hpp>\nBOOST_IS BOOST_LIB_VERSION\n").map_err(|e| e.to_string())?;
    let text = build.file(probe).try_expand().map_err(|_| without.to_owned())?;
    let text = String::from_utf8_lossy(&text);
    let version = text.lines().find_map(|line| line.strip_prefix("BOOST_IS ")).unwrap_or("of unknown version");
    Ok(version.trim_matches('"').replace('_', "."))
}

/// Returns the version.
fn dpdk() -> Result<String, String> {
    let mut build = shim("C", false)?;
    let without = "no DPDK (Debian: libdpdk-dev; benches/peers/install)";
    let library = pkg_config::Config::new().cargo_metadata(false).probe("libdpdk").map_err(|_| without.to_owned())?;
    // As they stand: some are neither paths nor definitions, and the inline functions need them.
    let flags = Command::new("pkg-config").args(["--cflags", "libdpdk"]).output().map_err(|_| without.to_owned())?;
    for flag in String::from_utf8_lossy(&flags.stdout).split_whitespace() {
        build.flag(flag);
    }
    build
        .file("shims/dpdk.c")
        .opt_level(3)
        .try_compile("shim_dpdk")
        .map_err(|_| format!("DPDK {} is installed, but its mempool does not compile", library.version))?;
    for path in &library.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    for name in ["rte_eal", "rte_mempool", "rte_ring"] {
        println!("cargo:rustc-link-lib={name}");
    }
    Ok(library.version)
}
