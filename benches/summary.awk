# One row of side-by-side.sh's runs as a Markdown table. -v row=NAME -v flags=LOADGEN_FLAGS.
# Input: row server round q/s cpu_ns p50_ns p99.9_ns lost busy rcodes. Ratios are computed within a
# round, in which the machine was in the same state.

function sorted(values, count,    i, j, swap) {
    for (i = 2; i <= count; i++)
        for (j = i; j > 1 && values[j - 1] > values[j]; j--) {
            swap = values[j]; values[j] = values[j - 1]; values[j - 1] = swap
        }
}
function median(values, count) {
    return count % 2 ? values[(count + 1) / 2] : (values[count / 2] + values[count / 2 + 1]) / 2
}
# The median of a figure over the rounds.
function typical(figures, server,    round, values, count) {
    for (round = 1; round <= rounds; round++)
        if ((server, round) in figures) values[++count] = figures[server, round]
    if (!count) return 0
    sorted(values, count)
    return median(values, count)
}
# "median (min–max)" of the ratio of two servers' figures, round by round.
function over(figures, server, other,    round, values, count) {
    for (round = 1; round <= rounds; round++)
        if ((server, round) in figures && (other, round) in figures && figures[other, round] > 0)
            values[++count] = figures[server, round] / figures[other, round]
    if (!count) return "–"
    sorted(values, count)
    return sprintf("%.2f (%.2f–%.2f)", median(values, count), values[1], values[count])
}
# "median (lower quartile–upper quartile)" of the difference of two figures, round by round.
function beyond(figures, server, other,    round, values, count) {
    for (round = 1; round <= rounds; round++)
        if ((server, round) in figures && (other, round) in figures)
            values[++count] = figures[server, round] - figures[other, round]
    if (!count) return "–"
    sorted(values, count)
    return sprintf("%+d (%+d–%+d)", median(values, count),
        values[int((count + 3) / 4)], values[int((3 * count + 3) / 4)])
}
# The echo that moves packets in the same way.
function echo_of(server) {
    if (row ~ /^tcp/) return "echo-tcp"
    return server ~ /mmsg/ ? "echo-mmsg" : "echo-uring"
}

$1 == row {
    if (!($2 in seen)) { seen[$2] = 1; servers[++server_count] = $2 }
    if ($3 > rounds) rounds = $3
    qps[$2, $3] = $4; cpu[$2, $3] = $5; p50[$2, $3] = $6; p999[$2, $3] = $7
    if ($8 > lost[$2]) lost[$2] = $8
    if ($9 > busy[$2]) busy[$2] = $9
    if ($2 ~ /^echo-/ && $4 > qps["best echo", $3]) qps["best echo", $3] = $4
}

END {
    printf "\n## %s: `%s`\n\n", row, flags
    print "| server | q/s | × CoreDNS | × its echo | × best echo | × Knot | CPU ns per query " \
        "| – above its echo | p50 µs | p99.9 µs | p50 × CoreDNS | p99.9 × CoreDNS " \
        "| lost, at most | generator busy, at most |"
    print "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    for (i = 1; i <= server_count; i++) {
        s = servers[i]
        printf "| %s | %d | %s | %s | %s | %s | %d | %s | %.0f | %.0f " \
            "| %s | %s | %.2g %% | %.0f %% |\n", s, typical(qps, s),
            over(qps, s, "coredns"), over(qps, s, echo_of(s)),
            over(qps, s, "best echo"), over(qps, s, "knot"),
            typical(cpu, s), beyond(cpu, s, echo_of(s)),
            typical(p50, s) / 1e3, typical(p999, s) / 1e3,
            over(p50, s, "coredns"), over(p999, s, "coredns"),
            lost[s] * 100, busy[s] * 100
    }
}
