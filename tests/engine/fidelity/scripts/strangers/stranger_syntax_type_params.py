def f[T: (int, str) = int, T](x: T) -> T: return x
