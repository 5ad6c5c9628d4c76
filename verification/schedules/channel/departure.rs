//! Who comes to a structure, leaves it, removes it, dies in it, and recovers the dead: it is freed once,
//! after everybody, and nobody writes it then.

use super::common::setting;
use super::play::scene::Scene;
use atomic_matrix::backend::Word;
use atomic_matrix::backend::orderings::{STRUCTURE_LOOK, STRUCTURE_WRITE};
use atomic_matrix::check::turns::{Player, Scheduled, Scheduling, play, unseen};
use atomic_matrix::ipc::ring::Ring;
use atomic_matrix::ipc::structure::{Role, Sort, Structure};
use atomic_matrix::matrix::heap::{Kind, ThreadCache};
use atomic_matrix::matrix::recovery::Policy as Give;
use atomic_matrix::segment::region::Region as _;
use fastrand::Rng;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What the runs came to.
#[derive(Default)]
pub(crate) struct Met {
    freed: Cell<u64>,
    refused: Cell<u64>,
    died: Cell<u64>,
    by_recovery: Cell<u64>,
}

/// Who makes a structure without a name, and is counted before another can come.
const MAKER: u16 = 1;

/// A structure, its memory as it was when it was freed, and what is in its ring.
struct Stage {
    scene: Scene<Scheduled>,
    freed: RefCell<Option<Vec<u64>>>,
    frees: Cell<u64>,
    /// It has no name: its last user removes it.
    unnamed: bool,
}

impl Stage {
    fn memory(&self) -> Vec<u64> {
        let words = self.scene.channel.header.size() as usize * self.scene.heap.layout().granule_words();
        let payload = self.scene.heap.region().payload(self.scene.channel.at, words).expect("it has payload");
        unseen(|| payload.iter().map(|word| word.load(&STRUCTURE_LOOK)).collect())
    }
    fn scribble(&self) {
        let words = self.scene.channel.header.size() as usize * self.scene.heap.layout().granule_words();
        let payload = self.scene.heap.region().payload(self.scene.channel.at, words).expect("it has payload");
        unseen(|| payload.iter().for_each(|word| word.store(0x0001_0001_0001_0005, &STRUCTURE_WRITE)));
    }
    /// The memory of a structure that is gone, as soon as it is.
    fn look(&self) {
        let gone = unseen(|| self.scene.heap.look(self.scene.channel.at)) != self.scene.channel.header;
        if gone && self.freed.borrow().is_none() {
            // Somebody else has the memory, and writes what he likes: what a late visitor reads there means nothing.
            self.scribble();
            *self.freed.borrow_mut() = Some(self.memory());
        }
    }
    fn free_if_unused(&self, cache: &mut ThreadCache) {
        Structure::drain_removed(&self.scene.heap, cache, self.scene.channel);
        if Structure::free_if_unused(&self.scene.heap, cache, self.scene.channel) {
            self.frees.set(self.frees.get() + 1);
            assert_eq!(self.frees.get(), 1, "Q3: freed twice");
        }
        self.look();
    }

    /// Comes, if it is not there already, sends or receives, and leaves.
    fn visit(&self, me: u16, removes: bool, random: &mut Rng, met: &Met) {
        let (heap, channel) = (&self.scene.heap, self.scene.channel);
        let cache = &mut ThreadCache::with_ceiling(me, 0);
        let joined = if self.unnamed && me == MAKER {
            Some(Some(self.scene.structure()))
        } else {
            Structure::visit(heap, me, channel, |structure| structure.enter(me).ok().map(|()| structure))
        };
        self.look();
        let Some(Some(structure)) = joined else {
            met.refused.set(met.refused.get() + 1);
            return self.free_if_unused(cache);
        };
        let role = [Role::Sender, Role::Receiver][random.usize(0..2)];
        let ring = Ring::of(structure);
        let has_role = structure.join(me, role).is_ok();
        let may = has_role && (structure.shape.sort == Sort::Channel || structure.take_role(me, role).is_ok());
        match role {
            _ if !may => met.refused.set(met.refused.get() + 1),
            Role::Sender => {
                if let Ok(live) = heap.allocate(cache, 1, 1, Kind::Raw)
                    && ring.send(me, live).is_err()
                {
                    heap.free(cache, live.at, Some(live.header.generation())).expect("it is ours");
                }
            }
            _ => {
                if let Ok(taken) = ring.receive(me) {
                    heap.free(cache, taken.live.at, Some(taken.live.header.generation())).expect("it is ours");
                }
            }
        }
        if removes {
            structure.remove();
        } else if self.unnamed {
            assert!(!unseen(|| structure.is_removed()), "Q6: removed although somebody is counted");
        }
        assert!(self.freed.borrow().is_none(), "Q3: freed while somebody uses it");
        if may {
            structure.drop_role(me, role);
        }
        if has_role {
            structure.leave(me, role);
        }
        structure.leave(me, Role::User);
        self.free_if_unused(cache);
    }
}

pub(crate) fn run(seed: u64, met: &Met) {
    let random = &mut Rng::with_seed(seed);
    let stage = Rc::new(Stage {
        scene: Scene::new(
            if seed.is_multiple_of(2) { Sort::Channel } else { Sort::Single },
            random.u32(0..=1),
            false,
            0,
        ),
        freed: RefCell::default(),
        frees: Cell::new(0),
        unnamed: random.bool(),
    });
    let remover = if stage.unnamed {
        unseen(|| stage.scene.structure().leave_to_users());
        stage.scene.join(MAKER);
        0
    } else {
        random.u16(1..=3)
    };
    let dying = random.bool().then(|| (random.u16(1..=3), random.u64(0..40)));
    // Met outlives the players' bodies only through a leak that the run takes back.
    let counts = Rc::new(Met::default());
    let mut players: Vec<Player> = (1..=3)
        .map(|me| {
            let (stage, counts, mut random) = (stage.clone(), counts.clone(), random.fork());
            let body = move || stage.visit(me, me == remover, &mut random, &counts);
            match dying {
                Some((dying, k)) if dying == me => Player::stopped_at(body, k),
                _ => Player::new(body),
            }
        })
        .collect();
    // Somebody recovers one that died before, and was counted.
    let before = random.bool();
    if before {
        stage.scene.join(5);
        unseen(|| stage.scene.structure().join(5, Role::Sender)).expect("it is not removed");
        let stage = stage.clone();
        players.push(Player::new(move || {
            stage.scene.heap.recoveries().recover(&mut ThreadCache::with_ceiling(4, 0), 5, Give::GiveBack);
            stage.look();
        }));
    }
    let policy = Scheduling::draw(random, 120);
    let ends = play(players, policy, random);
    stage.look();
    let stopped = dying.filter(|&(me, _)| ends[me as usize - 1].stopped);
    let gone = stage.freed.borrow().is_some();
    if let Some((dead, _)) = stopped {
        met.died.set(met.died.get() + 1);
        stage.scene.heap.recoveries().recover(&mut ThreadCache::with_ceiling(6, 0), dead, Give::GiveBack);
        stage.look();
    }
    if !stage.unnamed {
        // One more who comes: he finds nothing, or is the last to leave.
        stage.visit(7, true, random, &counts);
    }
    let freed = stage.freed.borrow().clone().unwrap_or_else(|| panic!("Q6: nobody uses it, and it is still there"));
    assert_eq!(stage.memory(), freed, "Q3: somebody wrote a structure that was freed");
    let cache = &mut ThreadCache::with_ceiling(8, 0);
    stage.scene.heap.heal(cache);
    let tally = stage.scene.heap.verify().unwrap_or_else(|fault| panic!("at rest: {fault}"));
    assert_eq!((tally.live.blocks, tally.free.blocks), (0, 1), "Q3: {tally:?}");
    met.freed.set(met.freed.get() + 1);
    met.refused.set(met.refused.get() + counts.refused.get());
    met.by_recovery.set(met.by_recovery.get() + u64::from(!gone && stopped.is_some()));
}

#[test]
fn schedules_q3_q6_a_structure_is_freed_once_after_everybody() {
    let met = Met::default();
    for seed in 0..setting("MATRIX_CHANNEL_RUNS", 4000) {
        super::naming(|| format!("seed {seed}"), || run(seed, &met));
    }
    let [freed, refused, died, by_recovery] = [&met.freed, &met.refused, &met.died, &met.by_recovery].map(Cell::get);
    println!("{freed} freed, {by_recovery} of them after a death; {died} died, {refused} turned away");
    assert!(refused > 100 && died > 100 && by_recovery > 10);
}
