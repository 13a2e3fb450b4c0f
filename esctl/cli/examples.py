"""Two examples or more of each command: the lines that its help, and docs/commands.md, end with.

The first is the commonest use. What a line is for stands behind `  # `. Each fits in 80 columns, and a test
parses it as the program does. Called by `helppage.py` and docs/make_reference.py.
"""

from collections.abc import Iterator, Mapping
from typing import Final

EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "demo": (
        "esctl demo  # about a minute, on a temporary cluster",
        "esctl demo --keep  # keep the cluster afterwards",
    ),
    "cluster up": (
        "esctl cluster up  # three nodes, named local",
        "esctl cluster up drill --faults --nodes 5  # five nodes, for faults",
    ),
    "cluster start": (
        "esctl cluster start  # the default cluster",
        "esctl cluster start drill --timeout 2m  # for a large log",
    ),
    "cluster stop": (
        "esctl cluster stop  # the data is kept",
        "esctl cluster stop drill --timeout 30s  # kill nodes after 30 s",
    ),
    "cluster down": (
        "esctl cluster down  # the data is kept",
        "esctl cluster down drill --dry-run",
    ),
    "cluster restart": (
        "esctl cluster restart --rolling  # keeps serving clients",
        "esctl cluster restart drill --yes  # all nodes together",
    ),
    "cluster destroy": (
        "esctl cluster destroy drill  # asks for the name",
        "esctl cluster destroy drill --confirm drill  # in a script",
    ),
    "cluster recover": (
        "esctl cluster recover --from-node 1 --dry-run  # what would be lost?",
        "esctl cluster recover drill --from-node 1 --confirm drill",
    ),
    "cluster ls": (
        "esctl cluster ls",
        "esctl cluster ls -o json",
    ),
    "cluster wait": (
        "esctl cluster wait  # wait for a leader",
        "esctl cluster wait drill --timeout 1m",
    ),
    "node ls": (
        "esctl node ls",
        "esctl node ls --cluster drill -o json",
    ),
    "node start": (
        "esctl node start 2",
        "esctl node start 2 --rejoin  # its data is out of date",
    ),
    "node stop": (
        "esctl node stop 2",
        "esctl node stop 2 --timeout 30s --yes  # in a script",
    ),
    "node restart": (
        "esctl node restart 2",
        "esctl node restart 2 --yes --cluster drill",
    ),
    "node drain": (
        "esctl node drain 2  # before work on its machine",
        "esctl node drain 1 --to 3  # node 3 leads afterwards",
    ),
    "node replace": (
        "esctl node replace 2 --dry-run  # what would it wait for?",
        "esctl node replace 2 --data-dir /mnt/new/node-2",
    ),
    "node kill": (
        "esctl node kill 1",
        "esctl node kill 1 --yes --cluster drill",
    ),
    "node pause": (
        "esctl node pause 3",
        "esctl node pause 3 --dry-run  # would there still be a quorum?",
    ),
    "node resume": (
        "esctl node resume 3",
        "esctl node resume 3 --cluster drill",
    ),
    "leader show": (
        "esctl leader show",
        "esctl leader show --cluster drill -o json",
    ),
    "leader transfer": (
        "esctl leader transfer  # to the best follower",
        "esctl leader transfer --to 2",
    ),
    "ring show": (
        "esctl ring show  # the circle, and a bar for each partition",
        "esctl ring show -o json",
    ),
    "ring grow": (
        "esctl ring grow --to 4 --dry-run  # what would move?",
        "esctl ring grow --to 4",
    ),
    "ring shrink": (
        "esctl ring shrink --to 3 --dry-run  # what would move?",
        "esctl ring shrink --to 3",
    ),
    "ring where": (
        "esctl ring where --source sensor-7  # who takes its events?",
        "esctl ring where --source sensor-7 -o json",
    ),
    "produce": (
        "esctl produce events.ndjson  # or .ndjson.gz",
        "esctl produce - --rate 1000  # standard input, at most 1,000/s",
    ),
    "consume": (
        "esctl consume  # all events that are acked",
        "esctl consume --follow -o json | jq .type  # new events as they arrive",
    ),
    "event": (
        "esctl event 5  # by its offset",
        "esctl event --source shop --id order-1  # by source and id",
    ),
    "event trace": (
        "esctl event trace 5  # its entry on each node",
        "esctl event trace --live  # send a probe and time it",
    ),
    "event dedup": (
        "esctl event dedup --source shop --id order-1",
        "esctl event dedup --source shop --id order-1 -o json",
    ),
    "verify": (
        "esctl verify  # compare all nodes",
        "esctl verify --input events.ndjson  # compare with the sent events",
    ),
    "export": (
        "esctl export --save events.db  # run it again to continue",
        "esctl export --save shop.ndjson.gz --where-source shop",
    ),
    "snapshot create": (
        "esctl snapshot create  # before a restart",
        "esctl snapshot create --dry-run",
    ),
    "snapshot ls": (
        "esctl snapshot ls",
        "esctl snapshot ls --cluster drill -o json",
    ),
    "compact": (
        "esctl compact --before 100000 --dry-run  # what would be deleted?",
        "esctl compact --before 100000 --yes",
    ),
    "dedup": (
        "esctl dedup",
        "esctl dedup --cluster drill -o json",
    ),
    "backup create": (
        "esctl backup create  # into the default directory",
        "esctl backup create --save /mnt/backup/today.escb",
    ),
    "backup verify": (
        "esctl backup verify /mnt/backup/today.escb",
        "esctl backup verify /mnt/backup/today.escb -o json",
    ),
    "backup restore": (
        "esctl backup restore today.escb --name restored",
        "esctl backup restore today.escb --name restored --dry-run",
    ),
    "backup drill": (
        "esctl backup drill  # make a backup, and prove that it can be restored",
        "esctl backup drill --file today.escb",
    ),
    "backup ls": (
        "esctl backup ls",
        "esctl backup ls /mnt/backup -o json",
    ),
    "backup prune": (
        "esctl backup prune --keep 7 --dry-run",
        "esctl backup prune /mnt/backup --keep 30 --yes",
    ),
    "status": (
        "esctl status",
        "esctl status --timeout 3s --cluster drill  # a slow machine",
    ),
    "status health": (
        "esctl status health  # exit code 0: healthy",
        "esctl status health --wait 1m  # after a restart, in a script",
    ),
    "status metrics": (
        "esctl status metrics",
        "esctl status metrics lag --warn 1000 --format nagios",
    ),
    "top": (
        "esctl top  # ? shows the keys",
        "esctl top --once -o json",
    ),
    "why": (
        "esctl why",
        "esctl why --disk-free 10 --cluster drill",
    ),
    "logs": (
        "esctl logs --level warning --since 10m",
        "esctl logs --follow --node 2",
    ),
    "timeline": (
        "esctl timeline --since 10m",
        "esctl timeline --since 09:00 --save outage.html  # for a post-mortem",
    ),
    "audit": (
        "esctl audit --since 2d",
        "esctl audit --verify  # was the log edited?",
    ),
    "doctor": (
        "esctl doctor",
        "esctl doctor --data-dir /mnt/data  # the disk of the nodes",
    ),
    "bundle": (
        "esctl bundle --save help.tar.gz",
        "esctl bundle --save help.tar.gz --log-mib 20",
    ),
    "fault partition": (
        "esctl fault partition isolate-leader --lease 10s",
        "esctl fault partition one-way 2 --yes  # nobody hears node 2",
    ),
    "fault net": (
        "esctl fault net 1-3 --delay 50ms --jitter 10ms",
        "esctl fault net 2 --drop 5% --lease 30s",
    ),
    "fault disk": (
        "esctl fault disk slow 2 --delay 200ms",
        "esctl fault disk flip 2 --yes  # the node repairs it",
    ),
    "fault clock": (
        "esctl fault clock jump 2 --by +2h",
        "esctl fault clock drift 2 --rate -50 --lease 1m",
    ),
    "fault kill": (
        "esctl fault kill 1 --lease 30s",
        "esctl fault kill 1 --dry-run  # would there still be a quorum?",
    ),
    "fault pause": (
        "esctl fault pause 3",
        "esctl fault pause 3 --lease 2m --yes",
    ),
    "fault freeze": (
        "esctl fault freeze",
        "esctl fault freeze --lease 30s --yes",
    ),
    "fault ls": (
        "esctl fault ls",
        "esctl fault ls --cluster drill -o json",
    ),
    "fault heal": (
        "esctl fault heal --all",
        "esctl fault heal cut-1a2b  # an id from esctl fault ls",
    ),
    "fault coverage": (
        "esctl fault coverage",
        "esctl fault coverage --cluster drill -o json",
    ),
    "fault storm": (
        "esctl fault storm --duration 1m",
        "esctl fault storm --seed 7 --kinds kill,pause --dry-run",
    ),
    "bench produce": (
        "esctl bench produce  # as fast as possible, 10 s",
        "esctl bench produce --rate 60000 --runs 3 --save base.json",
    ),
    "bench consume": (
        "esctl bench consume",
        "esctl bench consume --from 0 --decode --node 2",
    ),
    "bench e2e": (
        "esctl bench e2e --rate 20000",
        "esctl bench e2e --rate 20000 --runs 3 --save e2e.json",
    ),
    "bench sweep": (
        "esctl bench sweep --p99 15ms",
        "esctl bench sweep --rates 20000,40000,60000 --runs 3",
    ),
    "bench soak": (
        "esctl bench soak --duration 1h",
        "esctl bench soak --rate 5000 --interval 10s --save soak.json",
    ),
    "bench failover": (
        "esctl bench failover  # kill the leader ten times",
        "esctl bench failover --kind pause --times 20 --save pause.json",
    ),
    "bench start": (
        "esctl bench start --rate 2000",
        "esctl bench start nightly --duration 1h",
    ),
    "bench ls": (
        "esctl bench ls",
        "esctl bench ls --all --cluster drill",
    ),
    "bench stop": (
        "esctl bench stop",
        "esctl bench stop nightly -o json",
    ),
    "bench compare": (
        "esctl bench compare base.json new.json",
        "esctl bench compare base.json new.json --tolerance 10",
    ),
    "bench report": (
        "esctl bench report base.json new.json",
        "esctl bench report soak.json --save soak.html",
    ),
    "playbook ls": (
        "esctl playbook ls",
        "esctl playbook ls -o json",
    ),
    "playbook show": (
        "esctl playbook show leader-loss-drill",
        "esctl playbook show playbooks/my-drill.toml",
    ),
    "playbook new": (
        "esctl playbook new my-drill --from leader-loss-drill",
        "esctl playbook new playbooks/my-drill.toml  # a small example",
    ),
    "playbook lint": (
        "esctl playbook lint playbooks/my-drill.toml",
        "esctl playbook lint  # all playbooks",
    ),
    "playbook plan": (
        "esctl playbook plan leader-loss-drill",
        "esctl playbook plan slow-follower -i delay=1s --save plan.json",
    ),
    "playbook rehearse": (
        "esctl playbook rehearse leader-loss-drill",
        "esctl playbook rehearse my-drill --nodes 5 --keep",
    ),
    "playbook run": (
        "esctl playbook run leader-loss-drill",
        "esctl playbook run slow-follower --input delay=1s --yes",
    ),
    "playbook resume": (
        "esctl playbook resume  # the newest run",
        "esctl playbook resume --answer restart=done",
    ),
    "playbook abort": (
        "esctl playbook abort --dry-run  # what would be undone?",
        "esctl playbook abort",
    ),
    "playbook runs": (
        "esctl playbook runs",
        "esctl playbook runs -o json",
    ),
    "playbook report": (
        "esctl playbook report  # the newest run",
        "esctl playbook report --save drill.html",
    ),
    "config show": (
        "esctl config show",
        "esctl config show -o json",
    ),
    "config explain": (
        "esctl config explain cluster  # why this cluster?",
        "esctl config explain output",
    ),
    "config set": (
        "esctl config set output plain",
        "esctl config set cluster drill --project  # in ./esctl.toml",
    ),
    "config unset": (
        "esctl config unset output",
        "esctl config unset cluster --project",
    ),
    "config context ls": (
        "esctl config context ls",
        "esctl config context ls -o json",
    ),
    "config context show": (
        "esctl config context show",
        "esctl config context show -o json",
    ),
    "config context add": (
        "esctl config context add test --to drill",
        "esctl config context add test --to drill --project",
    ),
    "config context use": (
        "esctl config context use test",
        "esctl config context use test --project",
    ),
    "config context rm": (
        "esctl config context rm test",
        "esctl config context rm test --project",
    ),
    "explain": (
        "esctl explain ES3103",
        "esctl explain  # list all codes",
    ),
    "docs": (
        "esctl docs  # list the documents",
        "esctl docs operations | less",
    ),
    "schema": (
        "esctl schema status",
        "esctl schema  # list the commands",
    ),
    "completion": (
        'esctl completion bash  # in ~/.bashrc: eval "$(esctl completion bash)"',
        "esctl completion fish > ~/.config/fish/completions/esctl.fish",
    ),
    "version": (
        "esctl version",
        "esctl version -o json",
    ),
}
"""By the name of the command, such as `cluster up`."""


def shown(name: str) -> Iterator[str]:
    """The lines for people, what they are for in one column; nothing for a name that is no command."""
    pairs = [line.partition("  # ") for line in EXAMPLES.get(name, ())]
    width = max((len(typed) for typed, _, what in pairs if what), default=0)
    for typed, _, what in pairs:
        yield f"{typed:<{width}}  # {what}" if what else typed
