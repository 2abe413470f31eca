"""Public and generated incidents for the benchmarks: loaders turn a folder into `case.Case`, generators make one from a seed.

No data lives here. A loader never hands on what the answer is made from: the fault command of a public set is not evidence.
"""
