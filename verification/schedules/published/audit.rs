//! What a heap at rest must be, obligation by obligation: the first thing found wrong, in words.

use crate::published::{ALLOCATED, FREE, HEADER, Live, Published};
use atomic_matrix::backend::Backend;

/// A check of one obligation.
pub(crate) type Audit<B> = fn(&Published<B>, &[Live]) -> Option<String>;

/// No two live blocks overlap.
pub(crate) fn s1<B: Backend>(heap: &Published<B>, live: &[Live]) -> Option<String> {
    let pairs = live.iter().enumerate().flat_map(|(i, a)| live[i + 1..].iter().map(move |b| (a, b)));
    pairs.into_iter().find_map(|(a, b)| {
        let (low, high) = if a.at <= b.at { (a, b) } else { (b, a) };
        let overlaps = low.at == high.at || low.at + low.size > high.at;
        overlaps.then(|| match low.at == high.at {
            true => format!("{} was handed out twice, and both blocks are live", heap.name(a.at)),
            false => {
                let end = heap.name(low.at + low.size);
                format!("{}, live, reaches to {end}, over {}, live", heap.name(low.at), heap.name(high.at))
            }
        })
    })
}

/// A live block has the bytes asked for.
pub(crate) fn s2<B: Backend>(heap: &Published<B>, live: &[Live]) -> Option<String> {
    live.iter().find(|live| u64::from(live.size) < u64::from(live.asked) + u64::from(HEADER)).map(|live| {
        let usable = live.size.saturating_sub(HEADER);
        format!("{} bytes were asked for, and {} has {usable}", live.asked, heap.name(live.at))
    })
}

/// The sizes tile the sector, live blocks are where the tiles are, and what is free is listed once.
pub(crate) fn s4<B: Backend>(heap: &Published<B>, live: &[Live]) -> Option<String> {
    let view = heap.view();
    let listed: Vec<u32> = view.lists.iter().flat_map(|(_, list, _)| list.iter().copied()).collect();
    if let Some(twice) = listed.iter().enumerate().find_map(|(i, at)| listed[i + 1..].contains(at).then_some(*at)) {
        return Some(format!("{} is listed twice", heap.name(twice)));
    }
    if let Some(lost) = live.iter().find(|live| !view.blocks.iter().any(|(block, ..)| *block == live.at)) {
        return Some(match view.blocks.iter().find(|(at, size, _)| (*at..at + size).contains(&lost.at)) {
            Some((at, ..)) => format!("{}, live, is inside {}", heap.name(lost.at), heap.name(*at)),
            None => format!("the header of {}, live, is overwritten", heap.name(lost.at)),
        });
    }
    for at in &listed {
        match view.blocks.iter().find(|(block, ..)| block == at) {
            None => return Some(format!("{} is listed, but no block begins there", heap.name(*at))),
            Some((_, size, _)) if *size < HEADER => {
                return Some(format!("{} is listed with {size} bytes, less than a header", heap.name(*at)));
            }
            Some((.., state)) if *state == ALLOCATED => return Some(format!("{}, live, is listed", heap.name(*at))),
            Some(_) => {}
        }
    }
    if let Some((at, ..)) = view.blocks.iter().find(|(at, _, state)| *state == FREE && !listed.contains(at)) {
        return Some(format!("{} is free and in no list", heap.name(*at)));
    }
    tiling(heap, live)
}

/// S4 in part: the sizes cover the sector.
pub(crate) fn tiling<B: Backend>(heap: &Published<B>, _: &[Live]) -> Option<String> {
    let unreached = heap.view().unreached;
    (unreached > 0)
        .then(|| format!("the sizes end {unreached} bytes before the sector does: nobody can ever have them again"))
}

/// S1, S4 and L2.
pub(crate) fn all<B: Backend>(heap: &Published<B>, live: &[Live]) -> Option<String> {
    s1(heap, live).or_else(|| s4(heap, live)).or_else(|| l2(heap, live))
}

/// A free block can be found.
pub(crate) fn l2<B: Backend>(heap: &Published<B>, _: &[Live]) -> Option<String> {
    let (_, list, _) = heap.view().lists.into_iter().find(|(.., shown)| !shown)?;
    Some(format!("{} is free and listed, but its bit is clear: no search finds it", heap.name(list[0])))
}

/// At rest no two neighbours are both free.
pub(crate) fn l3<B: Backend>(heap: &Published<B>, _: &[Live]) -> Option<String> {
    let view = heap.view();
    let pair = view.blocks.windows(2).find(|pair| pair.iter().all(|(.., state)| *state == FREE))?;
    Some(format!(
        "{} and {} are neighbours, both free, and nobody is at work",
        heap.name(pair[0].0),
        heap.name(pair[1].0)
    ))
}
