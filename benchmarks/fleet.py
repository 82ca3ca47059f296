"""How saving scales beyond one machine: a model, and a simulation that it is checked against.

    python benchmarks/fleet.py [--quick] [--rate VIEWS_PER_SECOND] [--images N --views V] [--driver UNITS_PER_SECOND]

Nothing here runs a teacher. Units are sleeps on a simulated clock; workers, thousands of them, take units from one
driver that can hand out so many a second, and fail at random at a given rate per hour, which costs the unit at hand and
the time to start again. The rate per GPU and the driver's rate are options: measure the first with
``benchmarks/saving.py`` or a real saving on your GPU, the second with ``benchmarks/saving.py --only ray``.
Prices are those that the options give, of requests and of storage.
"""
import argparse
import heapq
import random

from harness import report

GPUS = (8, 64, 512)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rate', type=float, default=1000, help='views per second of one GPU')
    parser.add_argument('--images', type=int, default=14_200_000)
    parser.add_argument('--views', type=int, default=90)
    parser.add_argument('--samples-per-shard', type=int, default=65_536)
    parser.add_argument('--bytes-per-record', type=float, default=200)
    parser.add_argument('--driver', type=float, default=200, help='units per second that the driver hands out')
    parser.add_argument('--failures', type=float, default=0.01, help='per worker and hour')
    parser.add_argument('--restart', type=float, default=120, help='seconds until a lost worker works again')
    parser.add_argument('--put-price', type=float, default=0.005, help='of 1,000 PUT or LIST requests')
    parser.add_argument('--get-price', type=float, default=0.0004, help='of 1,000 GET requests')
    parser.add_argument('--store-price', type=float, default=0.023, help='of a GB for a month')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--quick', action='store_true', help='a twentieth of the units')
    parser.add_argument('--json', metavar='FILE', help='add the tables to this file')
    return parser.parse_args()


def model(units: int, unit_s: float, workers: int, driver: float, failures: float, restart: float) -> dict[str, float]:
    """Hours to the end and the share of work that is lost, in closed form.

    A worker does a unit in ``unit_s``; at ``failures`` per hour it loses half a unit and ``restart`` seconds on average
    each time. The driver limits the fleet to ``driver`` units per second. The last round is half a unit long for most.
    """
    per_second = failures / 3600
    lost = per_second * unit_s / 2  # of the time at work
    down = per_second * restart
    speed = min(workers / unit_s * (1 - lost) / (1 + down), driver)
    return dict(hours=(units / speed + unit_s / 2) / 3600, lost=lost)


def simulate(units: int, unit_s: float, workers: int, driver: float, failures: float, restart: float,
             seed: int) -> dict[str, float]:
    """The same by events: each worker takes a unit when it is free and the driver can hand one out, and may fail."""
    rng = random.Random(seed)
    per_second = failures / 3600
    free = [(0., worker) for worker in range(workers)]
    handed, end, worked, lost, left = 0., 0., 0., 0., units
    while left:
        now, worker = heapq.heappop(free)
        start = handed = max(now, handed + 1 / driver)
        fails = rng.expovariate(per_second) if per_second else float('inf')
        if fails < unit_s:
            lost += fails
            worked += fails
            heapq.heappush(free, (start + fails + restart, worker))
            continue
        left -= 1
        worked += unit_s
        end = max(end, start + unit_s)
        heapq.heappush(free, (start + unit_s, worker))
    return dict(hours=end / 3600, lost=lost / worked)


def main() -> None:
    args = parse_args()
    shards = -(-args.images // args.samples_per_shard)
    units, unit_s = shards * args.views, args.samples_per_shard / args.rate
    units = units // 20 if args.quick else units
    rows = {}
    for workers in GPUS:
        found = [run(units, unit_s, workers, args.driver, args.failures, args.restart, *seed)
                 for run, seed in ((model, ()), (simulate, (args.seed,)))]
        rows[f'{workers} GPUs'] = {
            'days, model': found[0]['hours'] / 24, 'days, simulated': found[1]['hours'] / 24,
            'lost, model (%)': 100 * found[0]['lost'], 'lost, simulated (%)': 100 * found[1]['lost']}
    report(f'{units:,} units of {unit_s:.1f} s, {args.failures:.0%} failures per GPU and hour', rows, args.json,
           **vars(args))

    rows = {}
    for workers in (512, 4096):  # what the driver is for: units of one second
        for driver in (50, args.driver, 1000):
            found = simulate(20 * workers, 1., workers, driver, 0, 0, args.seed)
            rows[f'{workers} workers, {driver:g} units/s handed out'] = {
                'units/s done': 20 * workers / found['hours'] / 3600, 'workers busy (%)':
                100 * 20 / found['hours'] / 3600}
    report('units of one second, simulated', rows, args.json, **vars(args))

    rows, million = {}, 1e6
    for size in (4096, args.samples_per_shard):
        puts = million / size
        records = args.images * args.views / million
        rows[f'{size:,} records in a shard'] = {
            'PUTs per million records': puts, 'price of a million': puts * args.put_price / 1000,
            'PUTs in all': puts * records, 'price of all': puts * records * args.put_price / 1000,
            'GETs of a full download': puts * records, 'their price': puts * records * args.get_price / 1000,
            'GB': records * million * args.bytes_per_record / 1e9,
            'a month': records * million * args.bytes_per_record / 1e9 * args.store_price}
    report(f'an object store, {args.bytes_per_record:g} bytes per record', rows, args.json, **vars(args))


if __name__ == '__main__':
    main()
