//! Every bound of the server, in one place, each with the sum it comes from.

use std::time::Duration;

/// Updates that may wait for one shard: a plan and a generation of each of its tables, twice over. A sender that finds the
/// channel full keeps its newest and tries again, so nothing is lost but generations that nobody would have seen.
pub const UPDATES_WAITING_MAX: usize = 64;

/// `kubernetes` blocks alive at once: those of the running Corefile and, while it is being replaced, those of the next.
pub const TABLES_MAX: usize = 64;

/// Tables of a block that the fast path asks. A block with more asks the rest in full.
pub const GLANCE_TABLES_MAX: usize = 4;

/// Sockets a shard listens on: bind addresses times ports.
pub const LISTENERS_MAX: usize = 64;

/// Datagrams that a shard may hold at once, from their receipt until their answer has left: the buffers of its ring, a
/// power of two as the kernel wants. A send completes when it is submitted, save where the socket's buffer is full: then
/// receiving waits for it.
pub const DATAGRAM_BUFFERS: u16 = 512;

/// Bytes of one buffer: the kernel's 16-byte header, the peer's address (28), control messages (64) and the message.
/// Queries are far shorter than the 1428 bytes that leaves; a longer datagram arrives cut and is FORMERR.
pub const DATAGRAM_BUFFER_LEN: usize = 1536;

/// Submissions that fit the ring: a send of every buffer, and receives, cancellations.
pub const SUBMISSIONS: u32 = 1024;

/// Completions that fit the ring. A full queue ends every multishot receive, so: each buffer received and sent, twice.
pub const COMPLETIONS: u32 = 2048;

/// Datagrams that are looked at before the first of them is answered, so that the memory that each needs of the table is
/// fetched meanwhile: enough to hide what a fetch takes, few enough that their names stay in the first-level cache.
pub const LOOK_AHEAD: usize = 16;

/// Datagrams of one recvmmsg or sendmmsg: more measured no faster.
pub const DATAGRAM_BATCH: usize = 64;

/// How long sendmmsg may wait for a full socket buffer before the rest of a batch is given up, in milliseconds.
pub const SEND_WAIT_MS_MAX: u64 = 1;

/// Batches that UDP may take one after the other before TCP and timers have a turn.
pub const BATCHES_PER_TURN: u32 = 8;

/// Socket buffers asked of the kernel, in bytes, for each shard's socket: 4 MiB hold some 5 ms of queries at a shard's
/// full rate. The kernel caps it at net.core.{r,w}mem_max without saying so.
pub const SOCKET_BUFFER_LEN: usize = 4 << 20;

/// Polls of a busy-polling shard before TCP and timers have a turn.
pub const POLLS_PER_TURN: u32 = 16;

/// The longest busy poll: longer only heats an idle core.
pub const BUSY_POLL_MAX: Duration = Duration::from_millis(100);

/// How often, at most, a shard asks the kernel what its sockets had no room for.
pub const COUNT_DROPS_EVERY: Duration = Duration::from_secs(1);

/// Ports that are tried where the kernel is to choose one that is free for UDP and TCP.
pub const PORT_TRIES: usize = 32;

/// How long an address that is in use is tried again before it counts as another server's: a killed process's ring lets go of
/// its sockets within some 30 ms, ten times that on a busy machine.
pub const IN_USE_PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two such tries.
pub const IN_USE_LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long, where a new address takes packets that were another's, that one is left to answer what it holds already as it
/// did: its buffer is some 5 ms of a shard's work, and a query over TCP is a round trip behind its handshake. What comes meanwhile
/// waits at the new address.
pub const HAND_OVER_TIMEOUT: Duration = Duration::from_millis(200);

/// How long a TCP listener that closes still accepts those whose handshake had begun: some of the longest round trips. It ends before
/// `IN_USE_PATIENCE`, for whoever needs the address next.
pub const TCP_HAND_OVER_TIMEOUT: Duration = Duration::from_millis(500);

/// Connections that wait to be accepted, for each shard's socket; the kernel caps it at net.core.somaxconn.
pub const TCP_BACKLOG: i32 = 4096;

/// TCP connections of one shard. Past it the one that was of no use for longest is closed.
pub const TCP_CONNECTIONS_MAX: usize = 16384;

/// Answers that one connection may wait for; until one of them comes no more is read from it.
pub const TCP_PENDING_MAX: usize = 128;

/// Bytes read from one connection at a time: a full-length message and its length, or some thousand short ones.
pub const TCP_READ_LEN: usize = 2 + 65535;

/// Answers that are written at a time: one of the longest behind as many short ones as fit.
pub const TCP_WRITE_LEN: usize = 4 * (2 + 65535);

/// Time for a whole first query, and for any query that has begun (CoreDNS's `timeouts` read).
pub const TCP_READ_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for the peer to take an answer.
pub const TCP_WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between queries (RFC 7766, section 6.2.3).
pub const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause of accepting when the process is out of file descriptors.
pub const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// Failed answers that wait to be logged; past it the line is lost and counted, not the answer.
pub const ERROR_REPORTS_WAITING_MAX: usize = 1024;

/// How long a reload waits for the Corefile and what it imports to be read, and the start for the pidfile to be written.
pub const FILE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the end of the process waits for its pidfile to be removed.
pub const PIDFILE_REMOVAL_TIMEOUT: Duration = Duration::from_millis(50);

/// Lines of the log that wait to be written: two seconds of the most that failing queries log. Past it lines are lost and
/// counted, and nobody waits.
pub const LOG_LINES_WAITING_MAX: usize = 1024;
/// Bytes of these. Usual lines have 100 to 200; this leaves room for reports of a Corefile's mistakes, some 50 KB each.
pub const LOG_WAITING_LEN_MAX: usize = 1 << 20;
/// Bytes that are written to the log at a time, and one more line: what a pipe of Linux holds.
pub const LOG_WRITE_LEN: usize = 64 << 10;
/// How long a process that ends waits for its log to be written.
pub const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(200);
/// How long a server waits for standard error to take the warnings of its start, and why it ends.
pub const STDERR_TIMEOUT: Duration = Duration::from_millis(200);

/// How long `SIGTERM` waits at most, after lameduck, for shards to answer what their sockets still hold, and clients that wait
/// for upstreams. With the log's flush it stays within the second that is promised.
pub const DRAIN_TIMEOUT: Duration = Duration::from_millis(750);
/// How often a shard that is to stop looks whether anybody still waits.
pub const STOPPING_LOOK_EVERY: Duration = Duration::from_millis(5);

// Forwarding: bounds of one shard and one `forward` line.

/// Upstreams of one `forward`, those of a resolv.conf among them: CoreDNS's bound.
pub const UPSTREAMS_MAX: usize = 15;

/// Questions on their way to upstreams. At two seconds each, the time that a silent upstream takes, this is 2,000 a second;
/// each holds a socket, two while it is hedged, and some 4 KB.
pub const FORWARD_IN_FLIGHT_MAX: usize = 4096;

/// Time for one question, all its upstreams together: CoreDNS's.
pub const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long answers of upstreams still leave from an address that a reload has closed: until the last question has ended, and a
/// second for a busy machine.
pub const LATE_ANSWERS_AFTER_CLOSE: Duration = Duration::from_secs(FORWARD_TIMEOUT.as_secs() + 1);

/// Tries of one question where there are fewer upstreams than that: the one asked first, a hedge, and one more each. A query
/// that is sent again without an OPT is part of its try.
pub const FORWARD_TRIES_MAX: usize = 4;

/// Bytes of an upstream's answer over UDP, as our queries say (DNS flag day 2020).
pub const UPSTREAM_UDP_LEN: u16 = 1232;

/// Time for connecting to an upstream, TLS included: a lost SYN is sent again after one second.
pub const UPSTREAM_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections to one upstream. Past it questions share the least busy one.
pub const UPSTREAM_CONNECTIONS_MAX: usize = 32;

/// Of these, how many are being opened at once: half of the shortest backlog that a usual server has (Knot's: 10).
pub const UPSTREAM_CONNECTIONS_OPENING_MAX: usize = 5;

/// Questions that share one connection: all that may be on their way and as many hedges, spread over all connections.
pub const UPSTREAM_PIPELINE_MAX: usize = 256;

/// Bytes read from a connection at a time: an answer is seldom longer.
pub const UPSTREAM_READ_LEN: usize = 2048;

/// How often, at most, an upstream that fails is asked whether it is well again.
pub const HEALTH_CHECK_EVERY_MIN: Duration = Duration::from_millis(10);
/// Time for one health check: CoreDNS's.
pub const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an upstream that has shown that it has EDNS, or TCP, is presumed to have it, whatever fails: the time in which
/// servers are replaced.
pub const ABILITY_PROVEN_FOR: Duration = Duration::from_secs(300);
/// When an upstream that seems to lack one of the two is first probed for it: a lost packet may be all there was to it.
pub const ABILITY_PROBE_PAUSE_MIN: Duration = Duration::from_secs(1);
/// Each pause is twice the one before, to this: a query in five minutes is nothing to an upstream, and one that was upgraded
/// gets EDNS back.
pub const ABILITY_PROBE_PAUSE_MAX: Duration = Duration::from_secs(300);
/// How long FORMERR and NOTIMP are not asked about again without an OPT where that changed nothing.
pub const EDNS_ERROR_BELIEVED_FOR: Duration = Duration::from_secs(10);
/// How long a cache keeps the answer to a question with DO that came without an OPT. Of an upstream without EDNS it is all that
/// can be had; where one was taken for such by mistake, whoever checks signatures fails no longer than this.
pub const UNSIGNED_KEPT_FOR: Duration = EDNS_ERROR_BELIEVED_FOR;

/// Time between two probes of `loop`, while an upstream does not answer.
pub const LOOP_PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long `loop` probes an upstream that does not answer: as CoreDNS.
pub const LOOP_PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// Answer times that the running p95 is taken from: the three above it are one in twenty.
pub const ANSWER_TIMES_KEPT: usize = 64;
/// Fewer than these say nothing of an upstream.
pub const ANSWER_TIMES_MIN: usize = 8;
/// When an upstream that nothing is known of is hedged: most answers that a resolver must fetch are there by then.
pub const HEDGE_AFTER_UNKNOWN: Duration = Duration::from_millis(100);
/// Never sooner: a scheduler's hiccup is no slow upstream.
pub const HEDGE_AFTER_MIN: Duration = Duration::from_millis(2);
/// The only upstream is asked again after this many times its p95: that makes up for a lost packet and not for a slow answer, so
/// it is done when no answer should be coming any more.
pub const REPEAT_AFTER_P95: u32 = 2;
/// When one that nothing is known of is: BIND's first time-out.
pub const REPEAT_AFTER_UNKNOWN: Duration = Duration::from_millis(800);
/// Of this many questions one may be hedged, so that upstreams that slow down do not get twice the load for it.
pub const QUESTIONS_PER_HEDGE: u32 = 10;
/// Hedges that quiet times save up: the questions that wait at an upstream when it falls silent, 10,000 a second for the ten
/// milliseconds that pass until others are asked first.
pub const HEDGES_SAVED_MAX: u32 = 128;
/// Questions in a row that the hedge answered first, after which the upstream's health is checked.
pub const OUTRUNS_MAX: u32 = 3;

/// Clients of one shard that wait for upstreams, many of them for the same answer; each holds some 500 bytes.
pub const WAITERS_MAX: usize = 16384;

/// Answers of upstreams that wait for the cache of another shard; past it the oldest is lost.
pub const FILLS_WAITING_MAX: usize = 1024;

/// Tries to put one there. Each makes room for one, which another shard can take: four shards in a row that do are hardly met.
pub const FILL_TRIES_MAX: usize = 4;

/// Of these, how many a shard takes before a batch: some 50 µs' worth.
pub const FILLS_PER_BATCH_MAX: usize = 64;

/// Bytes that an entry of a cache may take on average, its key and the bookkeeping included: a usual one takes 400 to 600. With
/// CoreDNS's 9984 entries of either type a shard's cache holds 20 MB at most; the responses themselves are shared by all shards.
pub const CACHE_ENTRY_LEN: usize = 1024;

/// How long an answer that was to be asked for again while it is still given is not asked for once more, whatever has become
/// of the first question: one a second is nothing to an upstream.
pub const CACHE_REFRESH_PAUSE: Duration = Duration::from_secs(1);

// HTTP endpoints, metrics and events.

/// Connections that wait to be accepted, for each listener.
pub const HTTP_BACKLOG: i32 = 128;

/// Connections of one listener at a time: the kubelet's two probes, a few scrapers, and room for the curious.
pub const HTTP_CONNECTIONS_MAX: usize = 64;

/// Bytes of a request's line and headers: the least that hyper can be told. 64 connections hold 512 KB.
pub const HTTP_HEADER_LEN_MAX: usize = 8192;

/// Header fields of a request.
pub const HTTP_HEADER_COUNT_MAX: usize = 64;

/// Time for a whole request header, as in CoreDNS.
pub const HTTP_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for everything: CoreDNS's five seconds to read and five to write.
pub const HTTP_CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for the server's request to its own /health.
pub const HEALTH_POLL_TIMEOUT: Duration = Duration::from_secs(3);

/// Label sets (server, zone, view) that can be told apart in one process's life: 256 zones on four addresses. A set costs 1.7 KB
/// a shard once it is in use, and 18 bytes before.
pub const LABEL_SETS_MAX: usize = 1024;

/// Upstreams that can be told apart in one process's life: 17 `forward` lines of 15. One costs 2 KB a shard.
pub const UPSTREAM_LABELS_MAX: usize = 256;

/// How long the start and a reload wait for manifests to be read: those of 100,000 Services take some seconds.
pub const MANIFESTS_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a reload waits for the end of a k8s-sync thread that is no longer needed.
pub const SYNC_STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// How often it checks whether the shards have let the table go, and whether the thread has ended.
pub const SYNC_STOP_LOOK_EVERY: Duration = Duration::from_millis(1);

/// Events on their way from the source to the model. A full channel makes the source wait.
pub const EVENTS_WAITING_MAX: usize = 1024;

// The Corefile: each bound is far above what a ConfigMap (1 MiB) holds with sense, and low enough that a hostile or mistaken
// file ends in an error, not in a full memory.

/// Imports followed in one Corefile, snippets and files together: CoreDNS's bound.
pub const COREFILE_IMPORTS_MAX: usize = 10_000;

/// Words read, counting an imported file or snippet each time that it is imported: 1 MiB of
/// one-letter words is half of this.
pub const COREFILE_WORDS_MAX: usize = 1 << 20;

/// Bytes of one file: four times what a ConfigMap can hold.
pub const COREFILE_LEN_MAX: u64 = 4 << 20;

/// Braces within braces. CoreDNS's plugins need three.
pub const COREFILE_NESTING_MAX: usize = 16;

/// Zones after CIDRs have been expanded: 512 times the most that one CIDR gives (an IPv4 /1, /9,
/// /17 or /25: 128).
pub const COREFILE_ZONES_MAX: usize = 512 * 128;

/// Addresses of one block's `bind`: far more than a machine has, but for those of a Service proxy's
/// dummy interface.
pub const COREFILE_BIND_MAX: usize = 4096;

/// Entries of a kind that a `cache` may be told to hold: at some 500 bytes each 8 GB a shard.
pub const COREFILE_CACHE_CAPACITY_MAX: usize = 1 << 24;

/// Characters of a regular expression: CoreDNS's bound.
pub const COREFILE_REGEX_LEN_MAX: usize = 10_000;

/// Mistakes, and as many warnings, that are kept; further ones are counted.
pub const COREFILE_MISTAKES_MAX: usize = 50;

/// Longest line that is shown with its mistake underlined; a longer one fills the screen instead of
/// helping.
pub const COREFILE_EXCERPT_COLUMNS_MAX: usize = 400;

/// Most characters of a word that a message repeats.
pub const COREFILE_QUOTED_LEN_MAX: usize = 80;

const _: () = assert!(TCP_HAND_OVER_TIMEOUT.as_millis() < IN_USE_PATIENCE.as_millis());
const _: () = assert!(DATAGRAM_BUFFERS.is_power_of_two());
const _: () = assert!(COMPLETIONS as usize >= 4 * DATAGRAM_BUFFERS as usize);
const _: () = assert!(SUBMISSIONS as usize >= DATAGRAM_BUFFERS as usize + LISTENERS_MAX * 2);
const _: () =
    assert!(UPSTREAM_CONNECTIONS_MAX * UPSTREAM_PIPELINE_MAX >= 2 * FORWARD_IN_FLIGHT_MAX);
const _: () = assert!(ANSWER_TIMES_MIN <= ANSWER_TIMES_KEPT && UPSTREAMS_MAX <= u8::MAX as usize);
const _: () = assert!(2 * 9984 * CACHE_ENTRY_LEN <= 20 << 20);
const _: () = assert!(DRAIN_TIMEOUT.as_millis() + LOG_FLUSH_TIMEOUT.as_millis() < 1000);
const _: () = assert!(LOG_WAITING_LEN_MAX >= 2 * LOG_WRITE_LEN);
const _: () = assert!(TCP_WRITE_LEN >= 2 * (2 + wire::reply::MESSAGE_LEN_MAX));
