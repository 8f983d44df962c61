// numpy.random.RandomState(seed).randn: the Mersenne Twister and the polar method, so that a seed gives
// the latent that it has in Python.

const N = 624;
const M = 397;

class MersenneTwister {
  constructor(seed) {
    this.state = new Uint32Array(N);
    this.state[0] = seed;
    for (let i = 1; i < N; i++) {
      const last = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(1812433253, last) + i;
    }
    this.next = N;
  }

  integer() {
    const { state } = this;
    if (this.next === N) {
      for (let i = 0; i < N; i++) {
        const y = (state[i] & 0x80000000) | (state[(i + 1) % N] & 0x7fffffff);
        state[i] = state[(i + M) % N] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.next = 0;
    }
    let y = state[this.next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** A number in [0, 1) of 53 bits. */
  double() {
    const high = this.integer() >>> 5;
    return (high * 67108864 + (this.integer() >>> 6)) / 9007199254740992;
  }
}

/** `count` standard normal numbers of a seed from 0 to 2**32 - 1. */
export function randn(seed, count) {
  const twister = new MersenneTwister(seed);
  const out = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    let x;
    let y;
    let square;
    do {
      x = 2 * twister.double() - 1;
      y = 2 * twister.double() - 1;
      square = x * x + y * y;
    } while (square >= 1 || square === 0);
    const factor = Math.sqrt((-2 * Math.log(square)) / square);
    out[i] = factor * y;
    if (i + 1 < count) out[i + 1] = factor * x;
  }
  return out;
}
