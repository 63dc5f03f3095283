import multiprocessing as mp
with mp.get_context("fork").Pool(1) as pool:
    pool.map(lambda x: x, [1])
