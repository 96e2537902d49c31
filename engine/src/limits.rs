//! Every bound of the server, with the reason for its value.
//!
//! Bounds of protocols are in `wire`, those of the cluster in `k8s-sync`. Invariant: every sum that
//! a comment states is asserted at compile time, beside it.

use std::time::Duration;

// Shards.

/// Memory in bytes that a shard may take, for the default number of shards: 6 MB with the default
/// caches full of small responses, 20 MB if they are of 1 KiB. The tables are shared.
pub const SHARD_MEMORY_BYTES: u64 = 16 << 20;

/// Updates waiting for one shard: twice a plan and a generation of each table and pod index. A
/// sender that finds the channel full keeps its newest update and retries, so only outdated
/// generations are skipped.
pub const UPDATES_WAITING_MAX: usize = 2 * (1 + 2 * TABLES_MAX);

/// Everything that a new thread is sent to take a shard's place finds room at once.
const _: () = assert!(1 + 2 * TABLES_MAX + LISTENERS_MAX < UPDATES_WAITING_MAX);

/// How long the control plane waits for room in a shard's channel. Past that the shard does not
/// read it, and is replaced.
pub const SEND_PATIENCE: Duration = Duration::from_secs(1);

/// How often a shard is pinged. It answers between two batches, and an idle one is woken for it:
/// some 15 µs, or a part in ten thousand of a core.
pub const HEARTBEAT_EVERY: Duration = Duration::from_millis(200);
/// How often the control plane looks while a shard does not answer.
pub const STUCK_LOOK_EVERY: Duration = Duration::from_millis(20);
/// After this much silence `/health` says so: an answer normally takes microseconds.
pub const SHARD_LATE_AFTER: Duration = Duration::from_millis(300);
/// After this much silence the shard's thread is replaced. The longest that a shard does between
/// two looks at its channel is the TLS handshakes of 61 clients, as many as tokio polls in a row:
/// some 300 ms with keys of 4096 bits. It leaves time to be back within a second.
pub const SHARD_HUNG_AFTER: Duration = Duration::from_millis(500);
const _: () = assert!(
    SHARD_HUNG_AFTER.as_millis() + HEARTBEAT_EVERY.as_millis() + STUCK_LOOK_EVERY.as_millis()
        < 1000
);
/// How long the control plane waits for a new thread to have its ring: milliseconds, unless memory
/// is short.
pub const SHARD_START_TIMEOUT: Duration = Duration::from_secs(5);
/// Restarts of a shard at once. A query that makes it panic again and again costs it a cache and a
/// few milliseconds each time.
pub const SHARD_RESTARTS_MAX: u32 = 8;
/// Once those are used up, how often a shard is restarted.
pub const SHARD_RESTART_EVERY: Duration = Duration::from_secs(1);
/// Replaced threads that hang, of all shards. Each holds its cache, its ring and a generation of
/// each table, some megabytes. With more, only a new process helps, and `/health` asks for it.
pub const HUNG_THREADS_MAX: usize = 8;

/// Tables at a time: those of the running Corefile's local sources and, during a reload, those of
/// the next one's.
pub const TABLES_MAX: usize = 256;

/// Tables of a block that the fast path asks. A block with more asks the rest in full.
pub const GLANCE_TABLES_MAX: usize = 4;

/// Sockets that a shard listens on, one for each address and port.
pub const LISTENERS_MAX: usize = 64;

/// Datagrams that a shard may hold, from their receipt until their response has left: the buffers
/// of its ring. The kernel requires a power of two. A send is over when it is submitted.
pub const DATAGRAM_BUFFERS: u16 = 512;
const _: () = assert!(DATAGRAM_BUFFERS.is_power_of_two());

/// Bytes of one buffer: the kernel's 16-byte header, the peer's address (28), control messages
/// (64), and 1428 for the message. Queries are much shorter; a longer datagram is cut and gets
/// FORMERR.
pub const DATAGRAM_BUFFER_LEN: usize = 1536;
const _: () = assert!(DATAGRAM_BUFFER_LEN == 16 + 28 + 64 + 1428);

/// Entries of the submission queue, a power of two: a send of each buffer, and a receive and a
/// cancellation for each listener.
pub const SUBMISSIONS: u32 = 1024;
const _: () = assert!(
    SUBMISSIONS == (DATAGRAM_BUFFERS as u32 + 2 * LISTENERS_MAX as u32).next_power_of_two()
);

/// Entries of the completion queue: each buffer received, and each send failed, twice. If it
/// overflows, every multishot receive ends.
pub const COMPLETIONS: u32 = 2 * 2 * DATAGRAM_BUFFERS as u32;

/// Datagrams, or messages of a connection, that are inspected before the first of them is answered,
/// so that the memory that each needs of the table is prefetched: enough to hide the latency of a
/// fetch, few enough that their names stay in the first-level cache.
pub const LOOK_AHEAD: usize = 16;

/// Datagrams per recvmmsg or sendmmsg. More was no faster when measured.
pub const DATAGRAM_BATCH: usize = 64;

/// Milliseconds that sendmmsg may wait for a full socket buffer before the rest of a batch is
/// dropped.
pub const SEND_WAIT_MS_MAX: u64 = 1;

/// Consecutive UDP batches before TCP and timers have a turn.
pub const BATCHES_PER_TURN: u32 = 8;

/// Bytes of socket buffer requested for each shard's socket: some 5 ms of queries at a shard's full
/// rate. The kernel silently caps it at net.core.{r,w}mem_max.
pub const SOCKET_BUFFER_LEN: usize = 4 << 20;

/// CPUs of a machine. Linux numbers fewer; it bounds the memory of a range of `--cores`, and of the
/// map from CPUs to shards.
pub const CPU_COUNT_MAX: usize = 8192;

/// Statements of the program that maps CPUs to shards. The kernel translates each to at most four
/// of its own, of eight bytes, and before Linux 6.8 allows a socket 20 KiB of them
/// (net.core.optmem_max). CPUs that do not fit are left to the kernel's hash.
pub const STEERING_PROGRAM_LEN_MAX: usize = 512;
const _: () = assert!(STEERING_PROGRAM_LEN_MAX * 4 * 8 <= 20 << 10);

/// Datagrams that a shard answers without a pause before it counts as crowded: some 100 µs of work.
/// Another shard takes some 50 µs to wake, so an idle one would have answered the next ones sooner.
pub const CROWDED_AFTER: usize = 128;

/// How long one shard must be overloaded, and others idle, before its queries are spread by the
/// hash. A burst of queries ends sooner.
pub const OVERLOADED_FOR: Duration = Duration::from_millis(40);
/// Time between two looks at the shards' loads while one seems overloaded.
pub const STEERING_LOOK_EVERY: Duration = Duration::from_millis(10);
const _: () = assert!(OVERLOADED_FOR.as_millis() >= 4 * STEERING_LOOK_EVERY.as_millis());

/// How long the hash is tried before its answers are compared with those before it. Clients need
/// some of it to notice.
pub const STEERING_TRIAL: Duration = Duration::from_millis(100);
/// The hash pays if it answers so many times more: it costs twice the CPU time per query.
pub const HASH_PAYS_FROM: f64 = 1.03;

/// How long queries are spread by the hash after the first overload if that pays, and how long it
/// is not tried again if not. Each further overload doubles it. To find out that a shard is still
/// overloaded takes less than a tenth of this time.
pub const STEERING_PAUSE_MIN: Duration = Duration::from_secs(1);
const _: () = assert!(
    STEERING_PAUSE_MIN.as_millis()
        >= 10 * (OVERLOADED_FOR.as_millis() + 2 * STEERING_LOOK_EVERY.as_millis())
);
pub const STEERING_PAUSE_MAX: Duration = Duration::from_secs(256);
/// How long the load must have been half of what it was at the overload, before steering by CPU
/// resumes early.
pub const STEERING_CALM_FOR: Duration = Duration::from_secs(1);

/// Addresses whose fallbacks are counted, twice: for UDP and TCP. Those of the running Corefile,
/// and as many of earlier ones.
pub const STEERING_LABELS_MAX: usize = 2 * 2 * LISTENERS_MAX;

/// Bytes of an interface's name: the kernel's IFNAMSIZ, less its zero.
pub const INTERFACE_NAME_LEN_MAX: usize = 15;
/// How long the start-up waits for the node's interface and rules. Both take a few milliseconds,
/// unless another program holds the kernel's lock.
pub const NODE_SET_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// The same at the end, where an operator waits.
pub const NODE_TAKE_DOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// Attempts to get the lock of the node's interface, which others hold for milliseconds.
pub const NODE_LOCK_TRIES: u32 = 100;
pub const NODE_LOCK_TRY_EVERY: Duration = Duration::from_millis(10);
const _: () = assert!(
    NODE_LOCK_TRIES as u128 * NODE_LOCK_TRY_EVERY.as_millis() < NODE_TAKE_DOWN_TIMEOUT.as_millis()
);

/// Polls of a busy-polling shard before TCP and timers have a turn.
pub const POLLS_PER_TURN: u32 = 16;

/// The longest busy poll. A longer one would only keep an idle core busy.
pub const BUSY_POLL_MAX: Duration = Duration::from_millis(100);

/// The shortest time between two queries of a shard for the drops of its sockets.
pub const COUNT_DROPS_EVERY: Duration = Duration::from_secs(1);

/// Attempts to find a port that is free for UDP and TCP, if the kernel chooses the port.
pub const PORT_TRIES: usize = 32;

/// How long an address in use is retried before it counts as another server's. The kernel releases
/// the sockets of a killed process's ring within some 30 ms, or ten times that on a busy machine.
pub const IN_USE_PATIENCE: Duration = Duration::from_secs(1);
const _: () = assert!(IN_USE_PATIENCE.as_millis() >= 10 * 30);
/// Time between two such attempts.
pub const IN_USE_LOOK_EVERY: Duration = Duration::from_millis(10);

/// When a new address takes over the packets of an old one: how long the old one still answers what
/// it holds. Its buffer is some 5 ms of a shard's work, and a query over TCP comes one round trip
/// after its handshake. New packets wait at the new address meanwhile.
pub const HAND_OVER_TIMEOUT: Duration = Duration::from_millis(200);

/// How long a TCP listener that closes still accepts connections whose handshake had begun: a few
/// of the longest round trips. It ends before `IN_USE_PATIENCE`, so that the next user of the
/// address can bind it.
pub const TCP_HAND_OVER_TIMEOUT: Duration = Duration::from_millis(500);
const _: () = assert!(TCP_HAND_OVER_TIMEOUT.as_millis() < IN_USE_PATIENCE.as_millis());

// TCP.

/// Connections waiting to be accepted, for each shard's socket. The kernel caps it at
/// net.core.somaxconn.
pub const TCP_BACKLOG: i32 = 4096;

/// TCP connections of one shard. Beyond it the one that has been idle longest is closed.
pub const TCP_CONNECTIONS_MAX: usize = 16384;

/// TLS handshakes of one shard in progress: each holds a session before its client has sent a
/// query. Beyond it the one that began first ends.
pub const TLS_HANDSHAKES_MAX: usize = 256;

/// Reads of a TLS session, of 4 KiB or more each, before other connections have a turn.
pub const TLS_READS_MAX: usize = 32;

/// Encrypted bytes of a TLS session that its peer has not taken: a response of the maximum length.
pub const TLS_UNSENT_LEN_MAX: usize = 2 + 65535;
const _: () = assert!(TLS_UNSENT_LEN_MAX == TCP_READ_LEN);

/// Bytes of a response of the maximum length, with its length field.
pub const TCP_RESPONSE_LEN_MAX: usize = 2 + wire::reply::MESSAGE_LEN_MAX;

/// Responses in flight for one connection, and streams of one over HTTP/2. At the bound nothing
/// more is read from it.
pub const TCP_PENDING_MAX: usize = 128;

/// Bytes that the connections of one shard may owe their peers, over TCP and TLS: responses that
/// the peers have not taken, and `TCP_PENDING_LEN` for each in flight. No connection may owe more
/// than is left, so something is always left: nothing more is read from it, and a response that is
/// too long for the rest becomes a SERVFAIL. So a client that takes nothing, or now and then a
/// byte, leaves room for others.
pub const TCP_OWED_LEN_MAX: usize = 2 * TCP_PENDING_MAX * TCP_RESPONSE_LEN_MAX;
const _: () = assert!(TCP_OWED_LEN_MAX >> 20 == 16);
/// What a response in flight counts. Nobody knows its length yet; most are shorter.
pub const TCP_PENDING_LEN: usize = 1 << 10;
/// Bytes of that SERVFAIL with its length: a header and a question of the maximum length.
pub const TCP_REFUSAL_LEN_MAX: usize = 2 + 12 + wire::name::NAME_LEN_MAX + 4;
/// Beyond it, each connection may owe less than two responses, and a SERVFAIL for each in flight;
/// TLS keeps one response more. With what waits in the common buffer, the connections of a shard
/// have less than 4 GiB of responses, in vectors of up to twice the size. A client needs 16,384
/// connections for that; one has at most 8 MiB.
const _: () = assert!(
    TCP_OWED_LEN_MAX
        + TCP_WRITE_LEN
        + TCP_CONNECTIONS_MAX
            * (2 * TCP_RESPONSE_LEN_MAX
                + TCP_PENDING_MAX * TCP_REFUSAL_LEN_MAX
                + TLS_UNSENT_LEN_MAX)
        < 4 << 30
);
const _: () = assert!((TCP_OWED_LEN_MAX / 2) >> 20 == 8);

/// Bytes that each of the two buffers of an idle connection keeps: for usual queries and responses.
/// What is longer is freed.
pub const TCP_KEPT_LEN: usize = 1 << 10;
const _: () = assert!(2 * TCP_KEPT_LEN * TCP_CONNECTIONS_MAX <= 32 << 20);

/// Bytes per read from one connection: a message of the maximum length with its length field, or a
/// thousand of up to 62 bytes.
pub const TCP_READ_LEN: usize = 2 + 65535;
const _: () = assert!(TCP_READ_LEN == 2 + wire::reply::MESSAGE_LEN_MAX);
const _: () = assert!(TCP_READ_LEN / (2 + 62) >= 1000);

/// Bytes of responses to the connections that are answered together: one of the maximum length,
/// after as many short ones as fit.
pub const TCP_WRITE_LEN: usize = 4 * (2 + 65535);
const _: () = assert!(TCP_WRITE_LEN >= 2 * (2 + wire::reply::MESSAGE_LEN_MAX));

/// Bytes of requests over HTTP/2 that a connection may send before they are read: one query of the
/// maximum length. Requests over HTTP/1.1 are read one by one.
pub const HTTPS_RECEIVE_WINDOW: u32 = 65535;
const _: () = assert!(HTTPS_RECEIVE_WINDOW as usize >= wire::reply::MESSAGE_LEN_MAX);
/// Bytes of responses over HTTP/2 that wait in hyper for the client, for each request.
pub const HTTPS_SEND_LEN_MAX: usize = 65535;

/// Time for the whole first query, and for any query from its first byte (CoreDNS's `timeouts`
/// read).
pub const TCP_READ_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for the peer to take a part of its responses. It begins anew with each part:
/// `TCP_OWED_LEN_MAX` bounds what a slow peer keeps.
pub const TCP_WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between queries (RFC 7766, section 6.2.3).
pub const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before the next accept when no file descriptor is left.
pub const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

// Files, the log, start-up and shutdown.

/// Failed responses waiting to be logged. Beyond it the line is lost and counted; the response is
/// sent.
pub const ERROR_REPORTS_WAITING_MAX: usize = 1024;

/// Answered queries in one shard's ring, waiting to be logged: what a shard answers in the 10 ms
/// between two looks of the log's thread, at 400,000 queries per second. Beyond it the line is lost
/// and counted. A ring takes 1.5 MB, once a Corefile has `log`.
pub const QUERY_RING_LEN: usize = 4096;
/// How often the log's thread looks at the rings while they are empty.
pub const QUERY_RING_LOOK_EVERY: Duration = Duration::from_millis(10);
const _: () = assert!(QUERY_RING_LEN as u128 >= 400 * QUERY_RING_LOOK_EVERY.as_millis());
/// Bytes of lines of the query log that may wait at once: half of the room, so that the server's
/// own lines find some.
pub const QUERY_LINES_WAITING_LEN_MAX: usize = LOG_WAITING_LEN_MAX / 2;
/// Operators and values of an expression of `view`: two for each of 500 names.
pub const VIEW_NODES_MAX: usize = 1000;
/// Operators, calls and brackets inside one another in an expression, so that reading and
/// evaluating it takes less than a tenth of a thread's stack.
pub const VIEW_DEPTH_MAX: usize = 50;
/// Bytes of the texts that one expression makes of a query: its name of up to 1,004 bytes sixteen
/// times. With more it is not true.
pub const VIEW_TEXT_LEN_MAX: usize = 16 << 10;
/// The shortest time between two log lines about queries that were not logged.
pub const QUERY_LOSS_LOGGED_EVERY: Duration = Duration::from_secs(1);

/// How long a reload waits for the Corefile and its imports, and the start-up for the pidfile.
pub const FILE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a resolv.conf: a device like /dev/zero has no end.
pub const RESOLV_CONF_LEN_MAX: u64 = 1 << 20;

/// Domains of a search path that `autopath` follows: as many as Kubernetes gives a pod.
pub const SEARCH_DOMAINS_MAX: usize = 32;

/// How long the shutdown waits for the pidfile to be removed: a busy disk takes some 100 ms.
pub const PIDFILE_REMOVAL_TIMEOUT: Duration = Duration::from_millis(500);

/// Log lines waiting to be written: two seconds of the most that failed queries log (asserted with
/// the rate of that log). Beyond it lines are lost and counted; nothing waits.
pub const LOG_LINES_WAITING_MAX: usize = 1024;
/// Bytes of these lines: usual lines of up to 200 bytes, and reports of a Corefile's mistakes, some
/// 50 KB each.
pub const LOG_WAITING_LEN_MAX: usize = 1 << 20;
const _: () = assert!(LOG_WAITING_LEN_MAX >= LOG_LINES_WAITING_MAX * 200 + (50 << 10));
const _: () = assert!(LOG_WAITING_LEN_MAX >= 2 * LOG_WRITE_LEN);
/// Bytes per write to the log, before the last line: what a pipe of Linux holds.
pub const LOG_WRITE_LEN: usize = 64 << 10;
/// How long the shutdown waits for the log to be written.
pub const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(200);
/// How long a server waits to write warnings at start-up, or its final error, to standard error.
pub const STDERR_TIMEOUT: Duration = Duration::from_millis(200);

/// How long `SIGTERM`, after lameduck, waits for shards to answer queued queries and clients that
/// wait for upstreams. Together with the flush of the log it stays within the promised second.
pub const DRAIN_TIMEOUT: Duration = Duration::from_millis(750);
const _: () = assert!(DRAIN_TIMEOUT.as_millis() + LOG_FLUSH_TIMEOUT.as_millis() < 1000);
/// A shard that is still busy then closes its sockets all the same: a server that forwards is never
/// idle. The rest is for what the sockets hold.
pub const DRAIN_CLOSES_AFTER: Duration =
    Duration::from_millis(DRAIN_TIMEOUT.as_millis() as u64 / 3);
/// How often a shard that stops checks whether clients still wait.
pub const STOPPING_LOOK_EVERY: Duration = Duration::from_millis(5);

/// How often a process looks whether the one that it replaces has ended. It reads the kernel's list
/// of sockets for it.
pub const ALONE_LOOK_EVERY: Duration = Duration::from_secs(1);

// Forwarding: bounds of one shard and one `forward` line.

/// Upstreams of one `forward` line, including those of resolv.conf files: CoreDNS's bound.
pub const UPSTREAMS_MAX: usize = 15;
const _: () = assert!(UPSTREAMS_MAX <= u8::MAX as usize);

/// Questions in flight. At two seconds each, the time that a silent upstream takes, this allows
/// 2,000 per second. Each holds a socket (two while it is hedged) and some 4 KB.
pub const FORWARD_IN_FLIGHT_MAX: usize = 4096;
const _: () = assert!(FORWARD_IN_FLIGHT_MAX / 2 >= 2000);

/// Time for one question, all its upstreams together: CoreDNS's.
pub const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long upstream responses may still leave from an address that a reload has closed: until the
/// last question has ended, plus a second for a busy machine.
pub const LATE_ANSWERS_AFTER_CLOSE: Duration = Duration::from_secs(FORWARD_TIMEOUT.as_secs() + 1);

/// Tries of one question if there are fewer upstreams than this: the first try and its hedge, and
/// one more of each. A query that is sent again without an OPT is part of its try.
pub const FORWARD_TRIES_MAX: usize = 2 * 2;

/// Bytes of an upstream's response over UDP, as stated in our queries (DNS flag day 2020).
pub const UPSTREAM_UDP_LEN: u16 = 1232;

/// Time to connect to an upstream, including TLS: a lost SYN is sent again after one second.
pub const UPSTREAM_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections to one upstream. Beyond it queries share the least busy one.
pub const UPSTREAM_CONNECTIONS_MAX: usize = 32;

/// Connections being opened at once: half of the shortest backlog of a usual server (Knot's: 10).
pub const UPSTREAM_CONNECTIONS_OPENING_MAX: usize = 10 / 2;

/// Queries that share one connection: with all connections in use, all questions in flight and as
/// many hedges.
pub const UPSTREAM_PIPELINE_MAX: usize = 256;
const _: () =
    assert!(UPSTREAM_CONNECTIONS_MAX * UPSTREAM_PIPELINE_MAX >= 2 * FORWARD_IN_FLIGHT_MAX);

/// Bytes per read from a connection. Responses are seldom longer.
pub const UPSTREAM_READ_LEN: usize = 2048;

/// The shortest interval of health checks.
pub const HEALTH_CHECK_EVERY_MIN: Duration = Duration::from_millis(10);
/// Time for one health check: CoreDNS's.
pub const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an upstream that has shown EDNS, or TCP, is presumed to support it whatever fails: the
/// time in which servers are replaced.
pub const ABILITY_PROVEN_FOR: Duration = Duration::from_secs(300);
/// The pause before the first probe for a missing ability: perhaps only a packet was lost.
pub const ABILITY_PROBE_PAUSE_MIN: Duration = Duration::from_secs(1);
/// Each pause is twice the last one, up to this. One query in five minutes is no load for an
/// upstream, and an upgraded one gets EDNS back.
pub const ABILITY_PROBE_PAUSE_MAX: Duration = Duration::from_secs(5 * 60);
/// How long FORMERR and NOTIMP are believed without a second query, once a query without an OPT
/// changed nothing.
pub const EDNS_ERROR_BELIEVED_FOR: Duration = Duration::from_secs(10);
/// How long a cache keeps the response to a query with DO that came without an OPT. From an
/// upstream without EDNS nothing better is available. If EDNS was marked as missing by mistake,
/// validating clients fail no longer than this.
pub const UNSIGNED_KEPT_FOR: Duration = EDNS_ERROR_BELIEVED_FOR;

/// Time between two probes of `loop` while an upstream does not respond.
pub const LOOP_PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long `loop` probes an upstream that does not respond: CoreDNS's.
pub const LOOP_PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// Response times that the running p95 is computed from. Three of them, one in twenty, are above
/// it.
pub const ANSWER_TIMES_KEPT: usize = 64;
const _: () = assert!(ANSWER_TIMES_KEPT - (ANSWER_TIMES_KEPT * 95).div_ceil(100) == 3);
/// With fewer response times the p95 is unknown.
pub const ANSWER_TIMES_MIN: usize = 8;
const _: () = assert!(ANSWER_TIMES_MIN <= ANSWER_TIMES_KEPT);
/// When an upstream with an unknown p95 is hedged: by then most responses that a resolver must
/// fetch are there.
pub const HEDGE_AFTER_UNKNOWN: Duration = Duration::from_millis(100);
/// The earliest hedge: a hiccup of the scheduler is not a slow upstream.
pub const HEDGE_AFTER_MIN: Duration = Duration::from_millis(2);
/// A single upstream is queried again after this multiple of its p95, when a response is no longer
/// likely. That makes up for a lost packet, not for a slow response.
pub const REPEAT_AFTER_P95: u32 = 2;
/// The same with an unknown p95: BIND's first time-out.
pub const REPEAT_AFTER_UNKNOWN: Duration = Duration::from_millis(800);
/// One question in this many may be hedged, so that slow upstreams do not get twice the load.
pub const QUESTIONS_PER_HEDGE: u32 = 10;
/// Hedges that quiet times save up: for the questions that wait when an upstream falls silent,
/// 10,000 per second for the ten milliseconds until others are tried first.
pub const HEDGES_SAVED_MAX: u32 = 128;
const _: () = assert!(HEDGES_SAVED_MAX >= 10_000 * 10 / 1000);
/// Questions in a row whose hedge was answered first, after which the upstream's health is checked.
pub const OUTRUNS_MAX: u32 = 3;

// Clients that wait, and the cache.

/// Clients of one shard that wait for upstreams, often many for one response. Each takes some 500
/// bytes.
pub const WAITERS_MAX: usize = 16384;

/// Upstream responses waiting for the cache of another shard. Beyond it the oldest is lost.
pub const FILLS_WAITING_MAX: usize = 1024;

/// Attempts to add one. Each makes room for one, which another shard may take; four in a row are
/// very unlikely.
pub const FILL_TRIES_MAX: usize = 4;

/// Of these, how many a shard takes before a batch: some 50 µs of work.
pub const FILLS_PER_BATCH_MAX: usize = 64;
const _: () = assert!(FILLS_PER_BATCH_MAX <= FILLS_WAITING_MAX);

/// Bytes of an average cache entry, including its key and the bookkeeping. Usual ones take 400 to
/// 600. With CoreDNS's 9984 entries of each type a shard's cache takes at most 20 MiB; shards share
/// the responses.
pub const CACHE_ENTRY_LEN: usize = 1024;
const _: () = assert!(2 * 9984 * CACHE_ENTRY_LEN <= 20 << 20);

/// How long an entry is not refreshed again after a refresh was started, whatever its result: one
/// query per second is no load for an upstream.
pub const CACHE_REFRESH_PAUSE: Duration = Duration::from_secs(1);

// HTTP endpoints, metrics and events.

/// Connections waiting to be accepted, for each listener.
pub const HTTP_BACKLOG: i32 = 128;

/// Connections of one listener: the kubelet's two probes, a few scrapers, and some spare.
pub const HTTP_CONNECTIONS_MAX: usize = 64;

/// Bytes of a request's line and headers: hyper's minimum. All connections together take 512 KiB.
pub const HTTP_HEADER_LEN_MAX: usize = 8192;
const _: () = assert!(HTTP_CONNECTIONS_MAX * HTTP_HEADER_LEN_MAX == 512 << 10);

/// Header fields of a request.
pub const HTTP_HEADER_COUNT_MAX: usize = 64;

/// Time for a whole request header, as in CoreDNS.
pub const HTTP_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a whole connection: CoreDNS's five seconds to read and five to write.
pub const HTTP_CONNECTION_TIMEOUT: Duration = Duration::from_secs(5 + 5);

/// Time for the server's request to its own /health.
pub const HEALTH_POLL_TIMEOUT: Duration = Duration::from_secs(3);

/// Label sets (server, zone, view) in the life of a process: 256 zones on four addresses.
/// `metrics::shard` asserts what one costs.
pub const LABEL_SETS_MAX: usize = 256 * 4;

/// Counters of plugins in the life of a process, of 8 bytes per shard: as many as label sets.
pub const PLUGIN_COUNTERS_MAX: usize = LABEL_SETS_MAX;

/// Counters of one `template`: its zones times the types that have a series, times its records.
pub const TEMPLATE_COUNTERS_MAX: usize = 64;
const _: () = assert!(16 * TEMPLATE_COUNTERS_MAX <= PLUGIN_COUNTERS_MAX);

/// Upstreams with metrics in the life of a process: 17 `forward` lines of 15. `metrics::upstream`
/// asserts what one costs.
pub const UPSTREAM_LABELS_MAX: usize = 256;
const _: () = assert!(UPSTREAM_LABELS_MAX >= 17 * UPSTREAMS_MAX);

/// Time between two samples of the shards' counters, for the status page.
pub const STATUS_SAMPLE_PERIOD: Duration = Duration::from_secs(1);

/// Samples kept: those of a minute, and the one before it. One takes 144 bytes per shard.
pub const STATUS_SAMPLES_MAX: usize = 61;

/// Intervals between samples that a shard's rate is taken from.
pub const STATUS_RATE_SAMPLES: usize = 10;
const _: () = assert!(STATUS_RATE_SAMPLES < STATUS_SAMPLES_MAX);

/// Changes that the status page lists.
pub const STATUS_CHANGES_MAX: usize = 24;

/// Rows of any other list of the status page, so that a page takes at most some 512 KiB.
pub const STATUS_ROWS_MAX: usize = 100;

/// Explanations for `/explain` that are made at a time: each may read all manifests, or a list of
/// the API server. A person makes one at a time.
pub const EXPLANATIONS_MAX: usize = 2;
/// Requests for `/explain` that wait for those.
pub const EXPLAIN_CALLS_WAITING_MAX: usize = 4;

/// Bytes of an explanation that `explain --server` reads: a response has 64 KiB, and each record of
/// it some dozen bytes of text.
pub const EXPLANATION_LEN_MAX: u64 = 1 << 20;

/// How long `explain` waits for the objects behind an answer: a few lists of one namespace.
pub const OBJECTS_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the start-up and a reload wait for manifests: those of 100,000 Services take some
/// seconds.
pub const MANIFESTS_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of a file with certificates or a key: ten times those of a bundle of all public CAs.
pub const PEM_FILE_LEN_MAX: u64 = 2 << 20;

/// Bytes of a hosts file: the largest public blocklists have some 10 MB.
pub const HOSTS_FILE_LEN_MAX: usize = 16 << 20;
/// Entries of a hosts file, an address and a name each: more than fit into such a file at the usual
/// 20 bytes per line. While they are read they take some 700 bytes each, 730 MB at the most.
pub const HOSTS_ENTRIES_MAX: usize = 1 << 20;

/// Feeds that read their hosts or zone files at a time. Each file that hangs keeps a thread; beyond
/// this, no file is read.
pub const FILE_READINGS_MAX: usize = 32;

/// Bytes of a zone's file and of those that it includes: a signed zone of a hundred thousand names.
pub const ZONE_FILE_LEN_MAX: usize = 64 << 20;
/// Records of a zone: more than fit into such a file at the usual 50 bytes per record.
pub const ZONE_RECORDS_MAX: usize = 1 << 20;
/// Entries in an `auto` folder, sub-folders included. Zones beyond this are not found.
pub const ZONE_FOLDER_ENTRIES_MAX: usize = 1 << 18;
/// Folders around a zone file in that folder.
pub const ZONE_FOLDER_DEPTH_MAX: usize = 32;
/// Files around an included one, as in CoreDNS.
pub const ZONE_INCLUDE_DEPTH_MAX: usize = 7;

/// The shortest time between two checks of a hosts or zone file, whatever `reload` says.
pub const FILE_LOOK_EVERY_MIN: Duration = Duration::from_millis(100);
/// A hosts or zone file that was changed less than this ago may be half written, so it is read
/// later.
pub const FILE_WRITING_PAUSE: Duration = Duration::from_millis(50);
/// Such pauses in a row. A file that is written all the time is read after these.
pub const FILE_WRITING_PAUSES_MAX: usize = 10;

/// How long a reload waits for a k8s-sync thread that is no longer needed to end.
pub const SYNC_STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// How often it checks whether the shards have dropped the table, and whether the thread has ended.
pub const SYNC_STOP_LOOK_EVERY: Duration = Duration::from_millis(1);

/// How long a shutdown waits for the snapshots of clusters. The one of 100,000 Services takes half
/// of it.
pub const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(2);

/// Requests waiting for a k8s-sync thread: each table of external zones added and removed, and one
/// for the snapshot.
pub const SYNC_REQUESTS_WAITING_MAX: usize = 2 * TABLES_MAX + 1;

/// Events between their source and the model. A full channel makes the source wait.
pub const EVENTS_WAITING_MAX: usize = 1024;

// The Corefile. Each bound is far above what a ConfigMap (1 MiB) can reasonably hold, and low
// enough that a hostile or mistaken file causes an error instead of exhausting the memory.

/// Imports in one Corefile, snippets and files together: CoreDNS's bound.
pub const COREFILE_IMPORTS_MAX: usize = 10_000;

/// Words, with an imported file or snippet counted each time that it is imported: twice those of 1
/// MiB of one-letter words.
pub const COREFILE_WORDS_MAX: usize = 2 * ((1 << 20) / 2);

/// Bytes of one file: four times the size of a ConfigMap.
pub const COREFILE_LEN_MAX: u64 = 4 * (1 << 20);

/// Nested braces. CoreDNS's plugins need three.
pub const COREFILE_NESTING_MAX: usize = 16;

/// Keys of the ConfigMaps of one file that `ringdns check` reads: a cluster has some ten.
pub const CHECKED_TEXTS_MAX: usize = 1000;

/// Lines of a server block that lints still look at: they compare lines with each other, so a
/// million comparisons. Real blocks have some tens.
pub const LINTED_LINES_MAX: usize = 1000;

/// Lines of a server block that are compared with imported ones: `forward` lines, and one of each
/// directive that may not occur twice. A million comparisons; real blocks have some ten.
pub const COREFILE_DUPLICATES_MAX: usize = 1000;

/// Zones, after CIDRs are expanded: 512 times the most that one CIDR expands to (128: an IPv4 /1,
/// /9, /17 or /25).
pub const COREFILE_ZONES_MAX: usize = 512 * 128;

/// Addresses of one block's `bind`: far more than a machine has, even with the dummy interface of a
/// Service proxy.
pub const COREFILE_BIND_MAX: usize = 4096;

/// Entries of a type that a `cache` may be configured to hold: at some 500 bytes each, 8 GB per
/// shard.
pub const COREFILE_CACHE_CAPACITY_MAX: usize = 1 << 24;
const _: () = assert!(COREFILE_CACHE_CAPACITY_MAX as u64 * 500 / 1_000_000_000 == 8);

/// Rules of `rewrite` that may match one query: its waiting client keeps two bytes for each. Beyond
/// it the query fails. Rules with `continue` are written to change a name in a few steps.
pub const REWRITES_MAX: usize = 32;

/// Codes of a query's EDNS options that rules of `rewrite` know of. Clients send three or four.
pub const EDNS_CODES_MAX: usize = 16;

/// Bytes of the options that `rewrite` adds to a query: an upstream that reads 1232 bytes reads
/// them beside the longest name. Options that find no room are left out.
pub const EDNS_OPTIONS_LEN_MAX: usize = 900;
const _: () = assert!(12 + 255 + 4 + 11 + EDNS_OPTIONS_LEN_MAX <= 1232);

/// Rules of `rewrite` in a block: their indices have 16 bits.
pub const COREFILE_REWRITES_MAX: usize = 1 << 16;

/// Characters of a regular expression: CoreDNS's bound.
pub const COREFILE_REGEX_LEN_MAX: usize = 10_000;

/// Nested actions and parentheses of one template. Those of public Corefiles need two.
pub const TEMPLATE_NESTING_MAX: usize = 32;

/// Bytes that a template writes: a record in text has up to four times the bytes of its data, and
/// data over 4 KiB fits no response over UDP.
pub const TEMPLATE_TEXT_LEN_MAX: usize = 4 * (4 << 10);
// A width beyond this would be an error of Rust's `format!`.
const _: () = assert!(TEMPLATE_TEXT_LEN_MAX <= u16::MAX as usize);

/// Steps of one run of a template, and bytes that they make: some milliseconds of a shard's time.
pub const TEMPLATE_BUDGET: usize = 1 << 18;

/// Mistakes that are reported, and as many warnings. Further ones are counted.
pub const COREFILE_MISTAKES_MAX: usize = 50;

/// The longest line that is shown with its mistake underlined. A longer one would fill the screen.
pub const COREFILE_EXCERPT_COLUMNS_MAX: usize = 400;

/// Most characters of a word that a message repeats.
pub const COREFILE_QUOTED_LEN_MAX: usize = 80;

/// Inside queries that are nested in one another: answers of `template` may lead to names that
/// `template` answers too.
pub const PURSUIT_DEPTH_MAX: u8 = 8;
/// Look-ups of one pursuit: `autopath` tries each name of a search path, which has at most 32 in
/// glibc, and the name itself.
pub const PURSUIT_STEPS_MAX: usize = 36;
/// Pursuits in flight per shard. Each has up to 64 KiB for a response.
pub const PURSUITS_MAX: usize = 1024;

/// The longest delay of `erratic`, which takes the place of longer ones: a response that is late is
/// a pursuit, which ends within `FORWARD_TIMEOUT`, less a second for a busy machine.
pub const ERRATIC_DELAY_MAX: Duration = Duration::from_secs(4);
const _: () = assert!(ERRATIC_DELAY_MAX.as_secs() < FORWARD_TIMEOUT.as_secs());
