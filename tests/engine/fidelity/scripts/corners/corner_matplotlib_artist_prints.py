import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
class L(Line2D):
    def draw(self, r): print("drawn"); super().draw(r)
fig, ax = plt.subplots()
ax.add_line(L([0, 1], [0, 1]))
print("end")
