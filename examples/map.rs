//! A map: `cargo run --example map` in as many terminals as you like. Each has the same map; kill any of them
//! as you please.

use atomic_matrix::{Options, Result};

const HELP: &str = "set KEY VALUE | get KEY | take KEY | list | quit";
fn main() -> Result<()> {
    let segment = Options::new().name("settings").size(1 << 20).open_or_create()?;
    let settings = segment.map::<[u8]>("settings").capacity(1000).open_or_create()?;
    println!("{HELP}");
    for line in std::io::stdin().lines().map_while(|line| line.ok()) {
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("set"), Some(key), Some(value)) => {
                let mut message = settings.message_slice(key.as_bytes(), value.len())?;
                message.copy_from_slice(value.as_bytes()); // written once, where it lies
                match settings.insert(key.as_bytes(), message)? {
                    Some(old) => println!("was {}", String::from_utf8_lossy(&old)), // mine; dropped, it is freed
                    None => println!("new"),
                }
            }
            (Some("get"), Some(key), None) => match settings.get(key.as_bytes())? {
                Some(value) => println!("{}", String::from_utf8_lossy(&value)), // where it lies, until it is dropped
                None => println!("(nothing)"),
            },
            (Some("take"), Some(key), None) => {
                // Of several who take it one gets it; dropped, it is freed once nobody reads it.
                println!("{} bytes", settings.take(key.as_bytes())?.map_or(0, |taken| taken.len()));
            }
            (Some("list"), None, None) => {
                for (key, value) in settings.iter()?.flatten() {
                    println!("{} = {}", String::from_utf8_lossy(&key), String::from_utf8_lossy(&value));
                }
            }
            (Some("quit"), None, None) => return segment.unlink(),
            _ => println!("{HELP}"),
        }
    }
    Ok(())
}
