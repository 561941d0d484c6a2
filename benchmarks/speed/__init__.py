"""How fast dvid is here: one interleaved run over the network, memory, phases, start-up and store.

    python -m benchmarks.speed
    python -m benchmarks.speed --only network,startup --threads 1 --json figures.json

Run it in the repository's folder. It prints every figure with its spread and, where there is one,
the bar it has to stay under. What is compared takes turns, A B A B …, so that other work on the
machine meets all of it alike; a ratio is the median over the turns.
"""
