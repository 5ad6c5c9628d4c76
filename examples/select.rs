//! Waiting for several things: `cargo run --example select` in one terminal, `cargo run --example select
//! order 3` in others, or `limit 5`, or `stop`. Nothing polls; kill any of them as you please.

use atomic_matrix::ipc::Select;
use atomic_matrix::{Options, Result};
use std::time::Duration;

enum Got {
    Order(u64),
    Limit(u64),
    Stop,
}

fn main() -> Result<()> {
    let segment = Options::new().name("shop").size(1 << 20).open_or_create()?;
    let (orders, limit) = (segment.channel::<u64>("orders").open_or_create()?, segment.board::<u64>("limit")?);
    let stop = segment.event("stop")?;
    let number = std::env::args().nth(2).and_then(|number| number.parse().ok()).unwrap_or(1);
    match std::env::args().nth(1).as_deref() {
        Some("order") => return orders.sender()?.send_value(number),
        Some("limit") => return limit.set(number),
        Some("stop") => return stop.set(),
        _ => {}
    }
    let _keeps = orders.sender()?; // so that it goes on after the last customer
    let (receiver, mut seen, mut most) = (orders.receiver()?, 0, u64::MAX);
    let mut select = Select::new()
        .recv(&receiver, |got| got.map_or(Got::Stop, |order| Got::Order(*order)))
        .changed(&limit, &mut seen, |limit| limit.map_or(Got::Stop, Got::Limit))
        .set(&stop, |_| Got::Stop);
    loop {
        match select.wait(Duration::from_secs(60)) {
            Some(Got::Order(order)) => println!("an order of {order}{}", if order > most { ": too many" } else { "" }),
            Some(Got::Limit(limit)) => most = limit,
            Some(Got::Stop) => return segment.unlink(),
            None => println!("nothing for a minute"),
        }
    }
}
