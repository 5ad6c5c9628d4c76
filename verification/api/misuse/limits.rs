//! Limits that the documentation names in numbers: what is at the limit is accepted, and one more is refused.
//! The numbers stand here as the documentation has them, so that a constant that changes is noticed.

use crate::common::MIB;
use atomic_matrix::Error;
use atomic_matrix::handlers::Handler;
use atomic_matrix::segment::Options;
use std::alloc::Layout;

fn roomy() -> Handler {
    Options::new().memfd().size(64 * MIB).create().expect("a memory file")
}

/// The last that is accepted and the first that is not; the latter as a bad option.
fn ends<T>(accepted: usize, of: impl Fn(usize) -> Result<T, Error>) {
    of(accepted).unwrap_or_else(|e| panic!("{accepted}: {e}"));
    let refused = of(accepted + 1).err().unwrap_or_else(|| panic!("{} is accepted", accepted + 1));
    assert!(matches!(refused, Error::BadOption { .. }), "{refused}");
}

#[test]
fn what_is_at_a_limit_is_accepted_and_one_more_is_refused() {
    ends(1022, |slots| Options::new().memfd().size(4 * MIB).participants(slots).create());
    let granules = |shift: usize| Options::new().memfd().size(4 * MIB).granule(1 << shift).create();
    ends(16, granules);
    assert!(granules(4).is_ok() && granules(3).is_err());

    let h = roomy();
    ends(1 << 20, |cells| h.topic::<u64>(&format!("topic {cells}")).cells(cells).open_or_create());
    ends(1 << 20, |cells| h.channel::<u64>(&format!("channel {cells}")).capacity(cells).create());
    ends(1 << 17, |entries| h.map::<u64>(&format!("map {entries}")).capacity(entries).open_or_create());
    ends(1024, |guards| h.map::<u64>(&format!("guards {guards}")).guards(guards as u16).open_or_create());
}

atomic_matrix::shared! {
    #[repr(align(128))]
    struct Widest { bytes: [u8; 128] }
}

#[test]
fn the_largest_value_and_the_widest_are_locked() {
    let h = roomy();
    assert!(h.mutex::<[u64; 1 << 20]>("large").is_ok() && h.mutex::<Widest>("wide").is_ok());
    assert!(matches!(h.mutex::<[u64; (1 << 20) + 1]>("larger"), Err(Error::TooLarge { largest: 8_388_608, .. })));
    let bytes = |align| h.allocate_layout(Layout::from_size_align(8, align).expect("a layout"));
    assert!(bytes(4096).is_ok() && matches!(bytes(8192), Err(Error::BadAlignment { largest: 4096, .. })));
}
