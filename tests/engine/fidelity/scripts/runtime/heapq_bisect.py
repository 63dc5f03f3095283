import heapq, bisect, itertools
print(heapq.nsmallest(2, [3, 1, 2]), bisect.bisect([1, 3], 2), list(itertools.pairwise("abc")))
