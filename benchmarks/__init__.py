"""What ``make bench`` measures: speed and memory, written to ``benchmarks/results`` by the programs that measured them."""
