//! What can be asked.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

const AFTER: &str = "\
SEGMENT is an id, the beginning of one (if only one segment begins so), or a path.

Only reap, heal, rm, send and recv change anything. All other commands map a segment for reading alone
(the right to read its file is enough), take no participant slot, recover nobody, and work on one under
full load.
(bench works in a segment of its own, which has no name and goes away with it.)

Examples:
  matrix ls                                  the segments on this machine
  matrix stat 3f2a                           the segment whose id begins with 3f2a
  matrix blocks 3f2a --state live --min-bytes 1M --limit 20
  matrix blocks 3f2a --dead                  what participants that died have left
  matrix directory 3f2a                      published names and their blocks
  matrix structures 3f2a --seconds 1         channels, topics, locks: depth, rates, who uses them
  matrix peek 3f2a orders                    what is in a channel, without taking it
  matrix send 3f2a lines hello               into a channel of bytes or text
  matrix rm --stale                          segments that nobody uses any more
  matrix map 3f2a --svg sector.svg           a picture of the sector
  matrix verify 3f2a && echo sound           for scripts: the exit code tells
  matrix watch 3f2a --interval 0.5           look on while it works
  matrix stat 3f2a --json | jq .fragmentation
  matrix reap 3f2a                           recover participants that have died
  matrix bench                               how fast is it here?
  matrix bridge --help                       topics between hosts: the program matrix-bridge (bridges/zenoh)
  matrix completions bash > /etc/bash_completion.d/matrix

Exit codes:
  0  fine
  1  a fault was found: a segment is damaged
  2  wrong usage
  3  there is no such segment, or it can't be attached to
  4  refused (rm while participants are alive), or failed half-way";

/// Looks into AtomicMatrix segments: who uses them, what is in them, whether they are sound.
#[derive(Parser)]
#[command(name = "matrix", version, after_help = AFTER, max_term_width = 110)]
pub(crate) struct Matrix {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists segments: id, size, owner, age, participants and who they are
    ///
    /// A segment is stale if no participant is alive and no process maps it, as far as that can be seen from
    /// here: `rm --stale` removes those.
    /// ALIVE and DEAD are participants: threads that use the segment. LIVE is the share of the sector in live
    /// blocks. A damaged segment is a row that says what is wrong with it. Ends with exit code 1 if one of
    /// them is damaged.
    Ls(Ls),
    /// Shows what is in a segment, and who holds how much
    ///
    /// Live, free, parked and in flight; largest free block, fragmentation (1 - largest free / free), Shannon
    /// entropy of the free memory, free neighbours that are not merged; free blocks by size class; what each
    /// participant holds; the structures, as `matrix structures` lists them.
    Stat(Stat),
    /// Lists the blocks of a segment
    ///
    /// States: live (allocated), free, parked (freed, waiting unmerged for the next request of their size),
    /// in-flight (in the hands of an operation). The owner is a participant's number; 0 is nobody, 1023
    /// stands for what was kept from the dead.
    Blocks(Blocks),
    /// Lists published names: their blocks, who owns them, their size
    ///
    /// A published block belongs to nobody until somebody adopts or takes it. A name stays although its block
    /// was freed, until it is withdrawn. TYPE is the fingerprint of the type that it was published as.
    Directory(One),
    /// Lists channels, topics, boards, maps, locks and events, and who uses them
    ///
    /// DEPTH is what is in it: messages, publications that somebody has yet to read, entries, permits. With
    /// --seconds, PUT/s is how many were put into it meanwhile. USERS are processes with it open: their senders (s),
    /// receivers (r), and publications that a subscription has yet to read (+). NOTE says who has a lock, who holds
    /// messages that it has yet to acknowledge, and who waits.
    Structures(Structures),
    /// Shows what is in a channel, a topic, a board or a map, or the value of a mutex, and takes nothing
    ///
    /// Numbers, arrays and slices of them, and text are shown as that, what is of another type by its bytes. In a map,
    /// KEY is text if it is that. A value that is just written may be shown half old, half new (a mutex, a value in
    /// common).
    Peek(Peek),
    /// Sends text to a channel of bytes or of text (changes the segment)
    ///
    /// Ends with exit code 4 if there is no room until the time is over.
    Send(Send),
    /// Receives from a channel of bytes or of text, and writes it as it is (changes the segment)
    ///
    /// Ends with exit code 4 if nothing comes until the time is over, or nobody sends any more.
    Recv(Recv),
    /// Draws the sector, in the terminal or as SVG
    ///
    /// Each cell stands for equally many bytes. A cell that is partly live shows its live share by its height
    /// (in SVG by its density); one that is mostly parked or in flight shows that. An SVG picture of up to
    /// 4000 blocks shows each of them.
    Map(Map),
    /// Checks a segment
    ///
    /// Blocks tile the sector, every free block can be found, no two free neighbours are unmerged. Under load
    /// an operation in flight may look like a fault; therefore a fault counts only if it is there at every
    /// one of several looks. For certainty, verify at rest.
    Verify(Verify),
    /// Shows what is in a segment again and again, and what is put into each structure a second
    ///
    /// Ends when the segment is removed, after --count views, or with Ctrl-C. With --json: one object a line.
    Watch(Watch),
    /// Recovers participants that have died (changes the segment)
    ///
    /// Finishes what they had begun and releases their slots. Their live blocks are freed, or stay allocated:
    /// as the segment's creator chose (Options::keep_orphans), unless --keep or --free says otherwise for
    /// this once. Blocks that they had published, handed over or lost to an adopter are not theirs, and stay.
    /// Everybody who attaches does all this, too. Nothing happens if nobody is dead.
    Reap(Reap),
    /// Merges all that is free or parked (changes the segment)
    Heal(One),
    /// Removes a segment
    ///
    /// Its name goes away: those attached go on, nobody new can attach. Refused with exit code 4 if
    /// participants are alive. A process that has attached but never allocated is no participant, and is not
    /// noticed.
    Rm(Rm),
    /// Measures how fast it is on this machine, in a segment of its own
    ///
    /// A: blocks of 32 to 544 bytes, allocated and freed at random, 200 live in each thread. B: 64 bytes
    /// allocated and freed. C: 128 bytes allocated by one thread and freed by another. Takes (--repeat times
    /// --seconds) for each row. Other programs on the machine slow it down: compare best with best. Ends with
    /// exit code 1 if the heap is not whole afterwards.
    Bench(Bench),
    /// Writes a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// `matrix NAME ...` is the program `matrix-NAME`, beside this one or in PATH
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// Which segment.
#[derive(Args)]
pub(crate) struct Target {
    /// Name, id, beginning of an id, or path of a segment
    pub(crate) segment: String,
    #[command(flatten)]
    pub(crate) place: Where,
}

/// Where segments are looked for, and whose are believed.
#[derive(Args, Clone)]
pub(crate) struct Where {
    /// Where names and ids are looked for
    #[arg(long, value_name = "DIRECTORY", default_value = "/dev/shm")]
    pub(crate) dir: PathBuf,
    /// Also open segments of this user (who could cut the file while we look); may be given several times
    #[arg(long, value_name = "UID")]
    pub(crate) trust_owner: Vec<u32>,
}

#[derive(Args)]
pub(crate) struct One {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Write JSON, sizes in bytes
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    pub(crate) place: Where,
    /// Write JSON, sizes in bytes
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Stat {
    #[command(flatten)]
    pub(crate) one: One,
    /// Columns of the output (default: the terminal's)
    #[arg(long, value_parser = clap::value_parser!(u16).range(20..=1000))]
    pub(crate) width: Option<u16>,
}

#[derive(Args)]
pub(crate) struct Blocks {
    #[command(flatten)]
    pub(crate) one: One,
    /// Only blocks in this state; may be given several times
    #[arg(long, value_enum)]
    pub(crate) state: Vec<State>,
    /// Only blocks of this participant (0: unowned)
    #[arg(long, value_name = "NUMBER")]
    pub(crate) owner: Option<u16>,
    /// Only blocks that participants which died have left: of those that nobody has recovered yet, and (owner 1023)
    /// kept from the recovered
    #[arg(long)]
    pub(crate) dead: bool,
    /// Only blocks of at least so many bytes; K, M and G may follow
    #[arg(long, value_name = "BYTES", value_parser = crate::text::parse_bytes)]
    pub(crate) min_bytes: Option<u64>,
    /// Show at most so many blocks; 0 shows all
    #[arg(long, default_value_t = 1000)]
    pub(crate) limit: u64,
}

#[derive(Args)]
pub(crate) struct Structures {
    #[command(flatten)]
    pub(crate) one: One,
    /// Look twice, so many seconds apart, for rates
    #[arg(long, value_parser = crate::text::parse_seconds)]
    pub(crate) seconds: Option<f64>,
}

#[derive(Args)]
pub(crate) struct Peek {
    #[command(flatten)]
    pub(crate) one: One,
    /// The structure's name
    pub(crate) name: String,
    /// Show at most so many
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: usize,
}

#[derive(Args)]
pub(crate) struct Send {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The channel's name
    pub(crate) name: String,
    /// What to send ("-": the standard input, to its end)
    pub(crate) text: String,
    /// Seconds to wait for room
    #[arg(long, default_value_t = 1.0, value_parser = crate::text::parse_seconds)]
    pub(crate) timeout: f64,
}

#[derive(Args)]
pub(crate) struct Recv {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The channel's name
    pub(crate) name: String,
    /// Messages to receive, each on a line of its own if there are several
    #[arg(long, default_value_t = 1)]
    pub(crate) count: u64,
    /// Seconds to wait for each
    #[arg(long, default_value_t = 1.0, value_parser = crate::text::parse_seconds)]
    pub(crate) timeout: f64,
}

#[derive(Args)]
pub(crate) struct Map {
    #[command(flatten)]
    pub(crate) one: One,
    /// Columns of the picture (default: the terminal's)
    #[arg(long, value_parser = clap::value_parser!(u16).range(8..=1000))]
    pub(crate) width: Option<u16>,
    /// Rows of the picture
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(crate) rows: u16,
    /// Write an SVG picture to this file instead ("-": standard output)
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) svg: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) one: One,
    /// Attempts, 20 ms apart, of up to ten looks each; one look without a fault is enough
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tries: u32,
}

#[derive(Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) one: One,
    /// Seconds between two views
    #[arg(long, default_value_t = 1.0, value_parser = crate::text::parse_seconds)]
    pub(crate) interval: f64,
    /// End after so many views
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// Columns of the output (default: the terminal's)
    #[arg(long, value_parser = clap::value_parser!(u16).range(20..=1000))]
    pub(crate) width: Option<u16>,
}

#[derive(Args)]
pub(crate) struct Reap {
    #[command(flatten)]
    pub(crate) one: One,
    /// Their live blocks stay allocated, and belong to nobody until somebody adopts or frees them;
    /// `blocks --dead` lists them
    #[arg(long, conflicts_with = "free")]
    pub(crate) keep: bool,
    /// Their live blocks are freed, although the segment's creator chose to keep them
    #[arg(long)]
    pub(crate) free: bool,
}

#[derive(Args)]
pub(crate) struct Bench {
    /// Threads of A and B (default: one for each core; there is always a row for one)
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) threads: Option<u16>,
    /// Seconds of each run
    #[arg(long, default_value_t = 0.3, value_parser = crate::text::parse_seconds)]
    pub(crate) seconds: f64,
    /// Runs of each row, in turns
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) repeat: u32,
    /// Bytes of the segment; K, M and G may follow
    #[arg(long, value_name = "BYTES", default_value = "64M", value_parser = crate::text::parse_bytes)]
    pub(crate) size: u64,
    /// Strict mode: nothing is parked, freed blocks are merged at once
    #[arg(long)]
    pub(crate) strict: bool,
    /// Write JSON, rates per second
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Rm {
    /// Name, id, beginning of an id, or path of a segment
    #[arg(required_unless_present = "stale")]
    pub(crate) segment: Option<String>,
    /// Remove all segments that no process takes part in or maps, as far as that can be seen from here
    #[arg(long, conflicts_with_all = ["segment", "force"])]
    pub(crate) stale: bool,
    #[command(flatten)]
    pub(crate) place: Where,
    /// Write JSON, sizes in bytes
    #[arg(long)]
    pub(crate) json: bool,
    /// Remove it although participants are alive, or although it is damaged
    #[arg(long)]
    pub(crate) force: bool,
}

/// What a block is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum State {
    /// Allocated
    Live,
    /// Free
    Free,
    /// Freed, waiting unmerged
    Parked,
    /// In the hands of an operation
    InFlight,
}

impl State {
    pub(crate) const ALL: [Self; 4] = [Self::Live, Self::Parked, Self::InFlight, Self::Free];

    pub(crate) fn of(state: atomic_matrix::handlers::BlockState) -> Self {
        use atomic_matrix::handlers::BlockState as B;
        match state {
            B::Free => Self::Free,
            B::Acked | B::Marked => Self::Parked,
            B::Coalescing => Self::InFlight,
            _ => Self::Live,
        }
    }
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Free => "free",
            Self::Parked => "parked",
            Self::InFlight => "in-flight",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::State;
    use atomic_matrix::handlers::BlockState as B;

    #[test]
    fn each_state_of_a_block_is_one_of_four() {
        use State::{Free, InFlight, Live, Parked};
        let seen = [B::Free, B::Acked, B::Marked, B::Coalescing, B::Allocated, B::Typed, B::TypedSmall].map(State::of);
        assert_eq!(seen, [Free, Parked, Parked, InFlight, Live, Live, Live]);
    }
}
