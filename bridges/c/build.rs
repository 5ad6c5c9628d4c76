//! The shared library's name for the dynamic linker, which programs record.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libatomic_matrix_c.so.0");
}
