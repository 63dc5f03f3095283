import matplotlib.pyplot as plt
plt.rcParams["font.family"] = "Arial"
plt.plot([1, 2])
plt.title("hello")
plt.show()
print("shown")
