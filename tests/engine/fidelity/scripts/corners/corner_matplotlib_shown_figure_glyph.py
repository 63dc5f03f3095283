import matplotlib.pyplot as plt
plt.title("\u1200")
plt.show()
print("end")
