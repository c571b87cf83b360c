# SPDX-License-Identifier: Apache-2.0
"""The dashboards: every panel is an entry of one table.

Series whose names have a colon are recorded by
``etc/prometheus/ceilometer-perf.rules.yml``, which says how they are made.
"""

from ceilometer_perf.panels.panel import (
    BYTES,
    BYTES_PER_SECOND,
    CPUS,
    IPC,
    MPKI,
    NUMBER,
    PER_SECOND,
    PERCENT,
    RATIO,
    SHARE,
    Dashboard,
    Measures,
    Panel,
    Query,
)

VM, HOST, PROJECT = "{{resource_name}}", "{{instance}}", "{{project}}"
BY_HOST = {"legend": "$host", "group_by": "host"}
BY_PROJECT = {"legend": "$project_id", "group_by": "project_id"}
TOP = 10


def _top(
    series: str, chosen: str = 'project=~"$project"'
) -> tuple[Query, ...]:
    query = f"topk({TOP}, {series}{{{chosen}}})"
    return (Query(query, f"{VM} on {HOST}"),)


def _of_host(series: str) -> Query:
    return Query(f'{series}{{instance=~"$host"}}', VM)


def _of_vm(series: str, legend: str = VM) -> Query:
    return Query(f'{series}{{resource=~"$vm"}}', legend)


def _bridged(series: str, variable: str, legend: str) -> Query:
    """As the rules have it: one may be missing while the agent reads."""
    label = {"vm": "resource", "host": "instance"}[variable]
    selected = f'{series}{{{label}=~"${variable}"}}'
    return Query(f"last_over_time({selected}[2m])", legend)


def _rate(meter: str, legend: str = "$display_name") -> Measures:
    return Measures(f"(/ (metric {meter} rate:mean) $interval)", legend)


def _level(meter: str, legend: str = "$display_name") -> Measures:
    return Measures(f"(metric {meter} mean)", legend)


# Of nanoseconds.
_CPUS = Measures(
    "(/ (/ (metric perf.sw.task_clock rate:mean) 1000000000) $interval)"
)

OVERVIEW = Dashboard(
    "overview",
    "Hardware use: overview",
    "Top users of caches, memory and CPUs.",
    chosen=("project",),
    search="project_id like '$project'",
    panels=(
        Panel(
            "Most L3 cache",
            f"The {TOP} instances that hold the most L3 cache.",
            BYTES,
            _top("vm:l3:bytes"),
            (_level("cpu_l3_cache"),),
            kind="top",
        ),
        Panel(
            "Most memory bandwidth",
            f"The {TOP} instances with the most traffic to and from memory.",
            BYTES_PER_SECOND,
            _top("vm:memory_bandwidth:bytes_per_second"),
            (_level("memory.bandwidth.total"),),
            kind="top",
        ),
        Panel(
            "Most cache misses",
            f"The {TOP} instances with the most last-level cache misses.",
            PER_SECOND,
            _top("vm:perf_cache_misses:rate10m"),
            (_rate("perf.hw.cache_misses"),),
            kind="top",
        ),
        Panel(
            "Most CPU",
            f"The {TOP} instances that use the most CPU time; 1 is one CPU.",
            CPUS,
            _top("vm:perf_cpus:rate10m"),
            (_CPUS,),
            kind="top",
        ),
        Panel(
            "L3 share by host",
            "How much of each host's L3 caches instances hold.",
            SHARE,
            (Query("host:l3:ratio", HOST),),
            (Measures("(/ (aggregate sum (metric cpu_l3_cache.util mean)) "
                      "100)", **BY_HOST),),
        ),
        Panel(
            "Memory bandwidth by host",
            "Traffic of all instances on a host with its memory.",
            BYTES_PER_SECOND,
            (Query("host:memory_bandwidth:bytes_per_second", HOST),),
            (Measures("(aggregate sum (metric memory.bandwidth.total mean))",
                      **BY_HOST),),
        ),
        Panel(
            "IPC by host",
            "Instructions of all instances on a host, per cycle. Gnocchi: "
            "the mean of its instances.",
            IPC,
            (Query("host:perf_ipc:ratio", HOST),),
            (Measures("(aggregate mean (metric perf.derived.ipc mean))",
                      **BY_HOST),),
        ),
        Panel(
            "Cache miss ratio by host",
            "Share of last-level cache references that miss. Gnocchi: the "
            "mean of its instances.",
            SHARE,
            (Query("host:perf_cache_miss:ratio", HOST),),
            (Measures("(/ (aggregate mean (metric "
                      "perf.derived.cache_miss_ratio mean)) 100)",
                      **BY_HOST),),
        ),
        Panel(
            "L3 cache by project",
            "Bytes that the project's instances hold, on all hosts.",
            BYTES,
            (Query('project:l3:bytes{project=~"$project"}', PROJECT),),
            (Measures("(aggregate sum (metric cpu_l3_cache mean))",
                      **BY_PROJECT),),
            kind="stacked",
        ),
        Panel(
            "Memory bandwidth by project",
            "Traffic of the project's instances, on all hosts.",
            BYTES_PER_SECOND,
            (Query("project:memory_bandwidth:bytes_per_second"
                   '{project=~"$project"}', PROJECT),),
            (Measures("(aggregate sum (metric memory.bandwidth.total mean))",
                      **BY_PROJECT),),
            kind="stacked",
        ),
    ),
)  # fmt: skip

INSTANCE = Dashboard(
    "instance",
    "Hardware use: instance",
    "What one instance does to the hardware.",
    chosen=("host", "vm"),
    search="id = '$vm'",
    panels=(
        Panel(
            "CPU",
            "CPU time that its counters saw; 1 is one CPU.",
            CPUS,
            (_of_vm("vm:perf_cpus:rate10m"),),
            (_CPUS,),
        ),
        Panel(
            "Cycles and instructions",
            "CPU cycles and retired instructions.",
            PER_SECOND,
            (_of_vm("vm:perf_cpu_cycles:rate10m", f"{VM} cycles"),
             _of_vm("vm:perf_instructions:rate10m", f"{VM} instructions")),
            (_rate("perf.hw.cpu_cycles", "$display_name cycles"),
             _rate("perf.hw.instructions", "$display_name instructions")),
        ),
        Panel(
            "IPC",
            "Instructions per cycle. If it falls while the load stays the "
            "same, the instance waits for something, usually memory.",
            IPC,
            (_bridged("ceilometer_perf_derived_ipc", "vm", VM),),
            (_level("perf.derived.ipc"),),
        ),
        Panel(
            "Miss ratios",
            "Share of cache references that miss, and of branches that are "
            "mispredicted.",
            PERCENT,
            (_bridged("ceilometer_perf_derived_cache_miss_ratio", "vm",
                      f"{VM} cache"),
             _bridged("ceilometer_perf_derived_branch_miss_ratio", "vm",
                      f"{VM} branches")),
            (_level("perf.derived.cache_miss_ratio", "$display_name cache"),
             _level("perf.derived.branch_miss_ratio",
                    "$display_name branches")),
        ),
        Panel(
            "Cache references and misses",
            "Accesses to the last-level cache, and those that went to "
            "memory.",
            PER_SECOND,
            (_of_vm("vm:perf_cache_references:rate10m", f"{VM} references"),
             _of_vm("vm:perf_cache_misses:rate10m", f"{VM} misses")),
            (_rate("perf.hw.cache_references", "$display_name references"),
             _rate("perf.hw.cache_misses", "$display_name misses")),
        ),
        Panel(
            "L3 cache",
            "Bytes that it holds in the L3 caches.",
            BYTES,
            (_of_vm("vm:l3:bytes"),),
            (_level("cpu_l3_cache"),),
        ),
        Panel(
            "Memory bandwidth",
            "Traffic with the memory of all NUMA nodes, and of the CPU's "
            "own node. The difference crosses nodes.",
            BYTES_PER_SECOND,
            (_of_vm("vm:memory_bandwidth:bytes_per_second", f"{VM} total"),
             _of_vm("vm:memory_bandwidth_local:bytes_per_second",
                    f"{VM} local")),
            (_level("memory.bandwidth.total", "$display_name total"),
             _level("memory.bandwidth.local", "$display_name local")),
        ),
        Panel(
            "Context switches and page faults",
            "How often its threads leave a CPU, and touch memory that is "
            "not mapped yet.",
            PER_SECOND,
            (_of_vm("vm:perf_context_switches:rate10m", f"{VM} switches"),
             _of_vm("vm:perf_page_faults:rate10m", f"{VM} faults")),
            (_rate("perf.sw.context_switches", "$display_name switches"),
             _rate("perf.sw.page_faults", "$display_name faults")),
        ),
        Panel(
            "Waiting for a CPU",
            "Share of its vCPUs' time in which they were ready to run and had "
            "no CPU.",
            SHARE,
            (_of_vm("vm:sched_delay:ratio"),),
            (_level("perf.sched.delay_ratio"),),
        ),
        Panel(
            "Neighbours",
            "Victim: the share of its speed that another instance takes. "
            "Culprit: how surely it slows another one down.",
            RATIO,
            (_of_vm("vm:neighbour_victim:ratio", f"{VM} victim"),
             _of_vm("vm:neighbour_culprit:ratio", f"{VM} culprit")),
            (_level("perf.neighbour.victim", "$display_name victim"),
             _level("perf.neighbour.culprit", "$display_name culprit")),
        ),
    ),
)  # fmt: skip

_L3_BY_INSTANCE = Panel(
    "L3 cache by instance",
    "What each instance holds, and the host's capacity.",
    BYTES,
    (_of_host("vm:l3:bytes"),
     Query('host:l3_capacity:bytes{instance=~"$host"}',
           f"capacity of {HOST}", limit=True)),
    (_level("cpu_l3_cache"),),
    kind="stacked",
)  # fmt: skip
_BANDWIDTH_BY_INSTANCE = Panel(
    "Memory bandwidth by instance",
    "Traffic of each instance. The host's maximum is unknown; the "
    "line is the highest value in 7 days.",
    BYTES_PER_SECOND,
    (_of_host("vm:memory_bandwidth:bytes_per_second"),
     Query("max_over_time(host:memory_bandwidth:bytes_per_second"
           '{instance=~"$host"}[7d])',
           f"most on {HOST} in 7 days", limit=True)),
    (_level("memory.bandwidth.total"),),
    kind="stacked",
)  # fmt: skip

HOST_PAGE = Dashboard(
    "host",
    "Hardware use: host",
    "How the instances on one host share its caches, memory and CPUs.",
    chosen=("host",),
    search="host = '$host'",
    panels=(
        _L3_BY_INSTANCE,
        _BANDWIDTH_BY_INSTANCE,
        Panel(
            "CPU by instance",
            "CPU time that the counters saw; 1 is one CPU.",
            CPUS,
            (_of_host("vm:perf_cpus:rate10m"),),
            (_CPUS,),
            kind="stacked",
        ),
        Panel(
            "Cache misses by instance",
            "Last-level cache misses: who makes most of them?",
            PER_SECOND,
            (_of_host("vm:perf_cache_misses:rate10m"),),
            (_rate("perf.hw.cache_misses"),),
            kind="stacked",
        ),
        Panel(
            "IPC by instance",
            "Instructions per cycle: whose falls while another one's misses "
            "rise?",
            IPC,
            (_bridged("ceilometer_perf_derived_ipc", "host", VM),),
            (_level("perf.derived.ipc"),),
        ),
        Panel(
            "L3 share by instance",
            "Of all L3 caches of the host.",
            SHARE,
            (_of_host("vm:l3:ratio"),),
            (Measures("(/ (metric cpu_l3_cache.util mean) 100)"),),
        ),
    ),
)  # fmt: skip

NEIGHBOURS = Dashboard(
    "neighbours",
    "Hardware use: neighbours",
    "Who slows whom down on a host, and what moved with it. "
    "ceilometer-perf neighbours on the host says through what.",
    chosen=("host",),
    search="host = '$host'",
    panels=(
        Panel(
            "Victims",
            f"The {TOP} instances that lose the most of their speed to "
            "another one. 0: none; no bar: nothing can be said.",
            SHARE,
            _top("vm:neighbour_victim:ratio", 'instance=~"$host"'),
            (_level("perf.neighbour.victim"),),
            kind="top",
        ),
        Panel(
            "Culprits",
            f"The {TOP} instances that most surely slow another one down: "
            "what they take correlates with its excess. 0: they don't.",
            RATIO,
            _top("vm:neighbour_culprit:ratio", 'instance=~"$host"'),
            (_level("perf.neighbour.culprit"),),
            kind="top",
        ),
        Panel(
            "Speed lost to neighbours",
            "Whose begins to lose while another one takes more of something "
            "below?",
            SHARE,
            (_of_host("vm:neighbour_victim:ratio"),),
            (_level("perf.neighbour.victim"),),
        ),
        Panel(
            "Waiting for a CPU by instance",
            "Share of its vCPUs' time in which they were ready to run and had "
            "no CPU.",
            SHARE,
            (_of_host("vm:sched_delay:ratio"),),
            (_level("perf.sched.delay_ratio"),),
        ),
        _L3_BY_INSTANCE,
        Panel(
            "Misses per 1,000 instructions by instance",
            "Whose rise while it holds less of the L3 cache? Where more "
            "misses come with more cache, it is its own doing.",
            MPKI,
            (_bridged("ceilometer_perf_derived_cache_mpki", "host", VM),),
            (_level("perf.derived.cache_mpki"),),
        ),
        _BANDWIDTH_BY_INSTANCE,
        Panel(
            "Pressure by instance",
            "Share of a minute in which some of its threads waited for a "
            "CPU, for memory, and for disks.",
            PERCENT,
            (_bridged("ceilometer_perf_psi_cpu", "host", f"{VM} CPU"),
             _bridged("ceilometer_perf_psi_memory", "host", f"{VM} memory"),
             _bridged("ceilometer_perf_psi_io", "host", f"{VM} disks")),
            (_level("perf.psi.cpu", "$display_name CPU"),
             _level("perf.psi.memory", "$display_name memory"),
             _level("perf.psi.io", "$display_name disks")),
        ),
    ),
)  # fmt: skip

TRUST = Dashboard(
    "trust",
    "Hardware use: trust",
    "Whether the counters see what they should. Doubtful values are "
    "withheld; ceilometer-perf status on the host says why.",
    chosen=("host",),
    search="host = '$host'",
    panels=(
        Panel(
            "Coverage",
            "Share of the instance's CPU time that the counters saw: 1 is "
            "right. Below 0.9 they are detached, and withheld.",
            SHARE,
            (_bridged("ceilometer_perf_coverage", "host", VM),),
            (_level("perf.coverage"),),
        ),
        Panel(
            "Counters withheld",
            "How many perf counters of each instance are not published, "
            "because they are wrong or in doubt. 0 is right.",
            NUMBER,
            (_of_host("vm:perf_withheld:count"),),
            (_level("perf.withheld"),),
        ),
        Panel(
            "Instances delivered",
            "How many instances of a host have a perf meter at all.",
            NUMBER,
            (Query("count by (instance) (count by (instance, resource) "
                   '({__name__=~"ceilometer_perf_(hw|sw)_.+",'
                   'instance=~"$host"}))', HOST),),
        ),
        Panel(
            "Counters that restarted",
            "Within an hour, by instance: the instance booted. A counter "
            "that falls for another reason is withheld.",
            NUMBER,
            (Query("sum by (resource_name) (resets("
                   'ceilometer_perf_sw_task_clock{instance=~"$host"}[1h]))',
                   VM),),
        ),
        Panel(
            "Agents",
            "1: Prometheus can scrape the host's agent.",
            NUMBER,
            (Query('up{job="ceilometer-compute",instance=~"$host"}', HOST),),
        ),
    ),
)  # fmt: skip

DASHBOARDS = (OVERVIEW, INSTANCE, HOST_PAGE, NEIGHBOURS, TRUST)
