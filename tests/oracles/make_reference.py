"""Write reference.csv: delta(epsilon) to 15 digits or more, from first principles.

Run ``python -m tests.oracles.make_reference`` in the repository root; it needs
mpmath and numpy, takes some minutes, and shares no code with the package.

A row is an event, written ``count kind numbers`` with ``;`` between parts, a
direction (which of two neighbours is the likelier source) and an epsilon.
The value is found in one of four ways, each in 40-digit arithmetic:

closed form
    Any number of Gaussians, and one Poisson-sampled Gaussian.
quadrature
    Two or three Poisson-sampled Gaussians: delta of n steps is the mean of
    e^L delta_{n-1}(epsilon - L) over the loss L of one step.
residues
    Laplace noise: the inverse Laplace integral has one pole that counts.
contour
    Everything else: the inverse Laplace integral of M(w)^T e^(-w epsilon) /
    (w (w - 1)) on a vertical line, M being the moment generating function of
    the loss, by Gauss-Legendre panels in x and the trapezoidal rule in w.

Every row but the closed forms is computed twice, the second time with another
line, step and set of panels (or another splitting of the integral); the number
of digits on which the two agree stands in the last column.
"""

import csv
import math
import random
import sys
from pathlib import Path

import mpmath as mp
import numpy as np

HERE = Path(__file__).parent
FIELDS = ("id", "event", "direction", "epsilon", "delta", "method", "digits")
DIGITS = 40
BITS = 150
NODES = 24
TINY = mp.mpf(10) ** -21
MOST_WORK = 3e8

ROWS = [
    # Gaussians, the sampling rate 1.
    ("G01", "1 gaussian 1", "remove", 1e-5),
    ("G02", "4 gaussian 4.469237", "remove", 1 / 285),
    ("G03", "1 gaussian 0.2", "remove", 1e-30),
    ("G04", "1000000 gaussian 100", "remove", 1e-10),
    ("G05", "1 gaussian 100", "remove", 1e-3),
    ("G06", "2 gaussian 3; 1 gaussian 0.7", "remove", 1e-15),
    # One step: nothing averages out.
    ("O01", "1 poisson 0.3 1", "remove", 1e-5),
    ("O02", "1 poisson 0.3 1", "add", 1e-2),
    ("O03", "1 poisson 0.01 1", "remove", 1e-5),
    ("O04", "1 poisson 1e-6 0.2", "remove", 1e-7),
    ("O05", "1 poisson 0.999 0.5", "remove", 1e-12),
    ("O06", "1 poisson 0.5 100", "remove", 1e-4),
    ("O07", "1 poisson 0.9 0.3", "remove", 1e-30),
    # Two and three steps.
    ("W01", "2 poisson 0.2 1", "remove", 1e-5),
    ("W02", "2 poisson 0.05 0.3", "remove", 1e-3),
    ("W03", "2 poisson 1e-4 0.5", "remove", 1e-6),
    ("W04", "2 poisson 0.7 2", "remove", 1e-20),
    ("W05", "3 poisson 0.9 0.7", "remove", 1e-5),
    # The settings that are timed, and the hard ones.
    ("S1", "20 poisson 0.05 0.99675", "remove", 1e-5),
    ("S1a", "20 poisson 0.05 0.99675", "add", 1e-5),
    ("S2", "10000 poisson 0.01 2.12738", "remove", 1e-5),
    ("S2a", "10000 poisson 0.01 2.12738", "add", 1e-5),
    ("S3", "100000 poisson 0.001 1.36477", "remove", 1e-5),
    ("S5", "14000 poisson 0.004266666666666667 0.65524", "remove", 1e-5),
    ("S5a", "14000 poisson 0.004266666666666667 0.65524", "add", 1e-5),
    ("S6", "20 poisson 0.05 0.748028", "remove", 1 / 149),
    ("S7", "1000000 poisson 1e-4 1.33005", "remove", 1e-10),
    ("S7a", "1000000 poisson 1e-4 1.33005", "add", 1e-10),
    ("H1", "1000 poisson 0.01 0.3", "remove", 1e-5),
    ("H2", "100000 poisson 0.5 50", "remove", 1e-5),
    ("H5", "3 poisson 0.9 1.2", "remove", 1e-9),
    ("H6", "50 poisson 0.2 0.4", "remove", 1e-5),
    ("H7", "10000 poisson 0.01 2.12738", "remove", 1e-15),
    ("H8", "30 poisson 0.999 2", "remove", 1e-5),
    # Both tails of delta.
    ("D01", "1000 poisson 0.01 1", "remove", 1e-1),
    ("D02", "1000 poisson 0.01 1", "remove", 1e-5),
    ("D03", "1000 poisson 0.01 1", "remove", 1e-12),
    ("D04", "1000 poisson 0.01 1", "remove", 1e-15),
    ("D05", "1000 poisson 0.01 1", "remove", 1e-30),
    ("D06", "1000 poisson 0.01 1", "add", 1e-1),
    ("D07", "1000 poisson 0.01 1", "add", 1e-15),
    ("D08", "1000000 poisson 0.01 100", "remove", 1e-5),
    ("D09", "1000000 poisson 0.0001 5", "remove", 1e-5),
    ("D10", "100000 poisson 0.001 0.8", "remove", 1e-15),
    ("D11", "1000000 poisson 1e-5 3", "remove", 1e-4),
    ("D12", "1000 poisson 0.5 1", "remove", 1e-5),
    ("D13", "1000 poisson 0.9 20", "remove", 1e-30),
    ("D14", "200 poisson 0.1 0.5", "remove", 1e-8),
    # delta(0), the largest advantage of any attack.
    ("Z01", "20 poisson 0.05 0.748028", "remove", None),
    ("Z02", "1000 poisson 0.01 1", "remove", None),
    ("Z03", "1000000 poisson 1e-5 1", "remove", None),
    # Laplace noise.
    ("L01", "1 laplace 1", "remove", 0.2),
    ("L02", "100 laplace 5", "remove", 1e-6),
    ("L03", "30 laplace 2", "remove", 1e-10),
    ("L04", "150 laplace 20", "remove", 1e-3),
    # Mixed runs: the exponents add.
    ("M01", "500 poisson 0.01 1; 200 poisson 0.05 2; 5 laplace 10", "remove", 1e-6),
    ("M02", "20 poisson 0.05 1.003; 1 gaussian 10", "remove", 1e-5),
    ("M03", "300 poisson 0.02 0.9; 1000 poisson 0.005 1.5", "remove", 1e-12),
    ("M04", "300 poisson 0.02 0.9; 1000 poisson 0.005 1.5", "add", 1e-4),
    ("M05", "100 poisson 0.05 1; 1 poisson 0.3 0.5", "remove", 1e-6),
    # Poisson sampling under replace-one.
    ("R01", "20 replace 0.05 1", "remove", 1e-3),
    ("R02", "10000 replace 0.01 4", "remove", 1e-5),
    ("R03", "1000 replace 0.01 1", "remove", 1e-6),
    ("R04", "200 replace 0.3 3", "remove", 1e-15),
]
RANDOM_ROWS = 36


def parts_of(event):
    """'20 poisson 0.05 1; 5 laplace 10' as [(20, 'poisson', 0.05, 1.0), ...]."""
    found = []
    for part in event.split(";"):
        count, kind, *numbers = part.split()
        found.append((int(count), kind, *map(float, numbers)))
    return found


# Closed forms ---------------------------------------------------------------


def gaussian_delta(epsilon, mu):
    """delta(epsilon) of N(mu, 1) against N(0, 1), any real epsilon."""
    return mp.ncdf(mu / 2 - epsilon / mu) - mp.exp(epsilon) * mp.ncdf(
        -mu / 2 - epsilon / mu
    )


def one_step(epsilon, q, s):
    """delta(epsilon), remove, of one Poisson-sampled Gaussian, any epsilon."""
    inside = mp.expm1(epsilon) + q
    if inside <= 0:
        return -mp.expm1(epsilon)
    return q * gaussian_delta(mp.log(inside / q), 1 / s)


def one_step_of(direction, epsilon, q, s):
    if direction == "remove":
        return one_step(epsilon, q, s)
    return -mp.expm1(epsilon) + mp.exp(epsilon) * one_step(-epsilon, q, s)


# Quadrature for two and three steps -----------------------------------------


def few_steps(epsilon, q, s, steps, pieces):
    """delta(epsilon), remove, by integrating over all steps but the last."""
    if steps == 1:
        return one_step(epsilon, q, s)

    def integrand(t):
        lift = mp.expm1(t / s - 1 / (2 * s * s)) * q
        rest = few_steps(epsilon - mp.log1p(lift), q, s, steps - 1, pieces)
        return mp.npdf(t) * (1 + lift) * rest

    low, high = -mp.mpf(16), 16 + 1 / s
    # The last step costs nothing smooth beyond e^(epsilon - L) = (1 - q)^rest.
    level = mp.exp(epsilon) / (1 - q) ** (steps - 1) - 1 + q
    cuts = [low + (high - low) * k / pieces for k in range(pieces + 1)]
    if level > 0:
        kink = s * mp.log(level / q) + 1 / (2 * s)
        if low < kink < high:
            cuts = sorted([*cuts, kink])
    return mp.quad(integrand, cuts)


# Residues for Laplace noise -------------------------------------------------


def laplace_delta(epsilon, scale, count):
    """delta(epsilon) of `count` releases with Laplace noise, exactly.

    M(w) = (w e^((w-1)/b) + (w-1) e^(-w/b)) / (2w-1); each term of M^T, expanded
    by the binomial theorem, has its only pole at w = 1/2 (and w = 1 where no
    factor w-1 cancels it), which counts where the exponent is positive.
    """
    total = mp.mpf(0)
    for k in range(count + 1):
        slope = (count - 2 * k) / scale - epsilon
        if slope <= 0:
            break
        total += (
            mp.binomial(count, k)
            * mp.exp((k - count) / scale)
            * _residues(k, count, slope)
        )
    return mp.exp(epsilon) * total


def _residues(k, count, slope):
    """Residues of w^(n-k-1) (w-1)^(k-1) e^(w slope) / (2w-1)^n, n = count."""
    # In v = w - 1/2: (v + 1/2)^a (v - 1/2)^b e^(slope v) / (2v)^n.
    order = count - 1
    first = _power_series(mp.mpf(1) / 2, count - k - 1, order)
    second = _power_series(-mp.mpf(1) / 2, k - 1, order)
    third = [mp.mpf(1)]
    for j in range(1, order + 1):
        third.append(third[-1] * slope / j)
    both = [
        mp.fsum(first[i] * second[j - i] for i in range(j + 1))
        for j in range(order + 1)
    ]
    at_half = mp.fsum(both[j] * third[order - j] for j in range(order + 1))
    value = at_half * mp.exp(slope / 2) / mp.mpf(2) ** count
    if k == 0:
        value += mp.exp(slope)
    return value


def _power_series(shift, power, order):
    """Coefficients of (v + shift)^power about v = 0; power may be -1."""
    if power < 0:
        return [(-1) ** j / shift ** (j + 1) for j in range(order + 1)]
    return [
        mp.binomial(power, j) * shift ** (power - j) if j <= power else mp.mpf(0)
        for j in range(order + 1)
    ]


# The contour integral -------------------------------------------------------


def legendre(count):
    """Nodes and weights on [-1, 1], to the working precision."""
    pairs = []
    for k in range(count):
        x = mp.cos(mp.pi * (k + mp.mpf(3) / 4) / (count + mp.mpf(1) / 2))
        for _ in range(8):
            before, here = mp.mpf(1), x
            for n in range(2, count + 1):
                before, here = here, ((2 * n - 1) * x * here - (n - 1) * before) / n
            slope = count * (x * here - before) / (x * x - 1)
            x -= here / slope
        pairs.append((x, 2 / ((1 - x * x) * slope * slope)))
    return pairs


class Sampled:
    """The loss of one sampled Gaussian as weights and values on a grid."""

    def __init__(self, kind, q, s, reach, width):
        q, s = mp.mpf(q), mp.mpf(s)
        low, high = -reach, reach + 1 / s
        if kind == "replace":
            low -= 1 / s
        panels = math.ceil((high - low) / width)
        half = (high - low) / (2 * panels)
        self.losses, self.weights = [], []
        for panel in range(panels):
            for node, weight in legendre_pairs():
                t = low + half * (2 * panel + 1 + node)
                up = q * mp.expm1(t / s - 1 / (2 * s * s))
                mass = mp.npdf(t) * half * weight
                loss = mp.log1p(up)
                if kind == "replace":
                    down = 1 + q * mp.expm1(-t / s - 1 / (2 * s * s))
                    mass, loss = mass * down, loss - mp.log(down)
                self.weights.append(mass)
                self.losses.append(loss)
        self.fast_losses = np.array([float(v) for v in self.losses])
        self.fast_weights = np.array([float(mp.log(v)) for v in self.weights])

    def log_moment(self, c):
        """K(c) in double precision, for finding the saddle."""
        terms = self.fast_weights + c * self.fast_losses
        top = terms.max()
        return top + math.log(np.exp(terms - top).sum())

    def decay(self, w):
        """log |M(w) / M(Re w)| in double precision."""
        c = w.real
        terms = self.fast_weights + c * self.fast_losses
        tilted = np.exp(terms - terms.max())
        value = (tilted * np.exp(1j * w.imag * self.fast_losses)).sum()
        return math.log(max(abs(value) / tilted.sum(), 1e-300))

    def along(self, c, step):
        """M(c) and then M(c + i k step) / M(c) for k = 0, 1, 2, ..."""
        pairs = zip(self.weights, self.losses, strict=True)
        tilted = [weight * mp.exp(c * loss) for weight, loss in pairs]
        moment = mp.fsum(tilted)
        yield moment
        one = mp.mpf(2) ** BITS
        real = np.array([int(v / moment * one) for v in tilted], dtype=object)
        imag = np.array([0] * len(tilted), dtype=object)
        turn_real = np.array([int(mp.cos(step * x) * one) for x in self.losses])
        turn_imag = np.array([int(mp.sin(step * x) * one) for x in self.losses])
        while True:
            yield mp.mpc(mp.mpf(int(real.sum())) / one, mp.mpf(int(imag.sum())) / one)
            real, imag = (
                (real * turn_real - imag * turn_imag) >> BITS,
                (real * turn_imag + imag * turn_real) >> BITS,
            )


class Closed:
    """A loss whose moment generating function is an elementary function."""

    def __init__(self, kind, scale):
        self.kind, self.scale = kind, mp.mpf(scale)

    def moment(self, w):
        if self.kind == "gaussian":
            return mp.exp(w * (w - 1) / (2 * self.scale**2))
        b = self.scale
        return (w * mp.exp((w - 1) / b) + (w - 1) * mp.exp(-w / b)) / (2 * w - 1)

    def log_moment(self, c):
        return float(mp.log(self.moment(mp.mpf(c))))

    def decay(self, w):
        value = self.moment(mp.mpc(w)) / self.moment(mp.mpf(w.real))
        return float(mp.log(abs(value) + mp.mpf(10) ** -300))

    def along(self, c, step):
        moment = self.moment(c)
        yield moment
        k = 0
        while True:
            yield self.moment(mp.mpc(c, k * step)) / moment
            k += 1


_PAIRS = []


def legendre_pairs():
    if not _PAIRS:
        _PAIRS.extend(legendre(NODES))
    return _PAIRS


class Contour:
    """delta(epsilon) of a composition, one direction."""

    def __init__(self, parts, direction, delta):
        self.parts, self.direction = parts, direction
        self.steps = sum(part[0] for part in parts)
        self.reach = mp.sqrt(-2 * mp.log(mp.mpf(delta) / self.steps * TINY))
        self.build(0.5)

    def build(self, width):
        self.width = width
        self.laws = []
        for count, kind, *numbers in self.parts:
            if kind in ("poisson", "replace"):
                scale = min(width, numbers[1])
                law = Sampled(kind, *numbers, self.reach, scale)
            else:
                law = Closed(kind, *numbers)
            self.laws.append((count, law))

    def exponent(self, c):
        return sum(count * law.log_moment(c) for count, law in self.laws)

    def place(self, e, c):
        return self.exponent(c) - c * e - math.log(abs(c * (c - 1)))

    def saddle(self, e):
        """Where the integrand is smallest on the real line, by golden section."""
        sign = 1.0 if self.direction == "remove" else -1.0
        start = 1.0 if sign > 0 else 0.0

        def height(u):
            return self.place(e, start + sign * math.exp(u))

        low, high = -12.0, 12.0
        ratio = (math.sqrt(5) - 1) / 2
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        fa, fb = height(a), height(b)
        for _ in range(60):
            if fa < fb:
                high, b, fb = b, a, fa
                a = high - ratio * (high - low)
                fa = height(a)
            else:
                low, a, fa = a, b, fb
                b = low + ratio * (high - low)
                fb = height(b)
        return start + sign * math.exp((low + high) / 2)

    def estimate(self, epsilon):
        """log delta by the saddle-point formula, good to a factor of 2."""
        e = epsilon if self.direction == "remove" else -epsilon
        c = self.saddle(e)
        d = 1e-3 * min(abs(c), abs(c - 1))
        bend = (
            self.place(e, c + d) + self.place(e, c - d) - 2 * self.place(e, c)
        ) / d**2
        lead = e if self.direction == "remove" else 0.0
        return lead + self.place(e, c) - 0.5 * math.log(2 * math.pi * bend)

    def period(self, e, c, digits):
        """A period P so long that its aliases stay below 10^-digits."""
        here, need = self.exponent(c), digits * math.log(10)
        right = [2.0**k for k in range(-12, 14)]
        room = c - 1 if self.direction == "remove" else math.inf
        other = math.inf if self.direction == "remove" else -c

        def best(sign, room):
            steps = [d for d in right if d < room] or [room / 2]
            found = [
                (need + self.exponent(c + sign * d) - here - sign * d * e) / d
                for d in steps
            ]
            return min(found)

        return max(best(1, other), best(-1, room), 1e-6)

    def value(self, epsilon, digits, shift, coarse):
        """delta(epsilon) with the line moved by `shift` and finer panels."""
        e = epsilon if self.direction == "remove" else -epsilon
        self.build(0.5 * coarse)
        c = self.saddle(e)
        start = 1.0 if self.direction == "remove" else 0.0
        c = start + (c - start) * shift
        # Resolve the turning of e^(i y L) within one panel, up to where the
        # integrand has died.
        y, need = 1.0, digits * math.log(10)
        while True:
            fine = min(0.5, 18.0 * self.narrowest() / (y + abs(c))) * coarse
            if fine < self.width / 1.2:
                self.build(fine)
            w = complex(c, y)
            fall = sum(count * law.decay(w) for count, law in self.laws)
            fall -= math.log(abs(w * (w - 1)) / abs(c * (c - 1)))
            nodes = sum(
                len(law.losses) for _, law in self.laws if hasattr(law, "losses")
            )
            period = self.period(e, c, digits)
            if nodes * y * period / (2 * math.pi) > MOST_WORK:
                return None
            if fall < -need:
                break
            y *= 1.3
        step = 2 * mp.pi / (mp.mpf(period) * 1.01) * coarse
        return self._sum(mp.mpf(epsilon), mp.mpf(e), mp.mpf(c), step, y)

    def narrowest(self):
        return min(part[3] for part in self.parts if part[1] in ("poisson", "replace"))

    def _sum(self, epsilon, e, c, step, top):
        walks = [(count, law.along(c, step)) for count, law in self.laws]
        base = mp.fsum(count * mp.log(next(walk)) for count, walk in walks)
        total, k = mp.mpf(0), 0
        while k * step <= top:
            w = mp.mpc(c, k * step)
            power = mp.mpc(0)
            for count, walk in walks:
                power += count * mp.log(next(walk))
            term = mp.re(mp.exp(power - mp.mpc(0, k * step) * e) / (w * (w - 1)))
            total += term / 2 if k == 0 else term
            k += 1
        lead = epsilon if self.direction == "remove" else 0
        return mp.exp(lead + base - c * e) * step / mp.pi * total


# Rows -----------------------------------------------------------------------


def short(x):
    return float(f"{x:.4g}")


def epsilon_near(log_delta_at, delta, least=1e-7):
    """An epsilon of four digits whose delta is near the one wanted."""
    want = math.log(delta)
    low, high = least, 1.0
    if log_delta_at(low) < want:
        return None
    while log_delta_at(high) > want:
        high *= 2
        if high > 1e7:
            return None
    for _ in range(30):
        middle = 0.5 * (low + high)
        if log_delta_at(middle) > want:
            low = middle
        else:
            high = middle
    return short(high)


def exact_and_method(parts, direction):
    """A closed form for delta(epsilon), where there is one."""
    kinds = {part[1] for part in parts}
    if kinds == {"gaussian"}:
        mu = mp.sqrt(mp.fsum(n / mp.mpf(s) ** 2 for n, _, s in parts))
        return (lambda e: gaussian_delta(mp.mpf(e), mu)), "closed form"
    if len(parts) == 1 and parts[0][0] == 1 and kinds == {"poisson"}:
        q, s = mp.mpf(parts[0][2]), mp.mpf(parts[0][3])
        return (lambda e: one_step_of(direction, mp.mpf(e), q, s)), "closed form"
    if kinds == {"laplace"} and len(parts) == 1:
        return (lambda e: laplace_with_spare(e, parts[0])), "residues"
    return None, None


def laplace_with_spare(epsilon, part):
    count, _, scale = part
    with mp.workdps(DIGITS + 2 * count):
        return laplace_delta(mp.mpf(epsilon), mp.mpf(scale), count)


def agreement(first, second):
    gap = abs(first - second) / abs(first)
    return DIGITS if gap == 0 else int(-mp.log10(gap))


def row(name, event, direction, delta):
    """One line of the table, or None where this script cannot tell."""
    parts = parts_of(event)
    exact, method = exact_and_method(parts, direction)
    if exact is not None:
        epsilon = epsilon_near(lambda e: float(mp.log(exact(e) + TINY**9)), delta)
        value = exact(epsilon)
        return (name, event, direction, repr(epsilon), mp.nstr(value, 20), method, 20)
    contour = Contour(parts, direction, delta or 1e-3)
    epsilon = 0.0
    if delta is not None:
        epsilon = epsilon_near(contour.estimate, delta, 1e-5)
        if epsilon is None:
            return None
    count, kind, *numbers = parts[0]
    if len(parts) == 1 and kind == "poisson" and count in (2, 3):
        q, s = map(mp.mpf, numbers)
        with mp.workdps(DIGITS if count == 2 else 20):
            values = [few_steps(mp.mpf(epsilon), q, s, count, n) for n in (2, 3)]
        method = "quadrature"
    else:
        values = [
            contour.value(epsilon, 20, shift, coarse)
            for shift, coarse in ((1.0, 1.0), (1.07, 0.83))
        ]
        method = "contour"
        if None in values:
            return None
    digits = agreement(*values)
    if digits < 15:
        return None
    return (
        name,
        event,
        direction,
        repr(epsilon),
        mp.nstr(values[1], 20),
        method,
        digits,
    )


def random_rows(count):
    """Log-uniform settings, from a fixed seed."""
    rng = random.Random(20241122)
    number = 0
    while number < count:
        q = short(10 ** rng.uniform(-6, 0))
        s = short(10 ** rng.uniform(math.log10(0.25), 2))
        steps = int(short(10 ** rng.uniform(0.7, 6)))
        delta = 10 ** rng.uniform(-30, -1)
        direction = rng.choice(["remove", "remove", "add"])
        mu = q * math.sqrt(steps) * math.sqrt(math.expm1(min(600.0, s**-2)))
        if not 0.03 < mu < 30:
            continue
        number += 1
        yield f"U{number:02}", f"{steps} poisson {q!r} {s!r}", direction, delta


def main():
    """Compute the rows named on the command line, or all of them."""
    mp.mp.dps = DIGITS
    path, only = HERE / "reference.csv", set(sys.argv[1:])
    wanted = [*ROWS, *random_rows(RANDOM_ROWS)]
    lines = {}
    if only and path.exists():
        with path.open(newline="") as file:
            lines = {line[0]: line for line in list(csv.reader(file))[1:]}
    for spec in wanted:
        if only and spec[0] not in only:
            continue
        line = row(*spec)
        if line is None:
            print(spec[0], "left out: it does not converge", file=sys.stderr)
            lines.pop(spec[0], None)
            continue
        print(*line, file=sys.stderr)
        lines[spec[0]] = line
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(FIELDS)
        table.writerows(lines[spec[0]] for spec in wanted if spec[0] in lines)


if __name__ == "__main__":
    main()
