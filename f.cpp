#include <cstdio>
template <class T> struct Wrap { const T value; };
template <class T> extern const Wrap<T> fake;
template <auto P> constexpr const char* nm() { return __PRETTY_FUNCTION__; }
struct S { float a = 1; int count = 3; };
template <class T> constexpr auto first() { auto& [x, y] = fake<T>.value; return &x; }
int main() { puts(nm<first<S>()>()); puts(nm<&fake<S>.value.count>()); }
