import enum
class Colour(enum.Enum):
    RED = 1
    BLUE = 2
print(Colour.RED, list(Colour), Colour(2))
