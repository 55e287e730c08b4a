// Addresses as numbers, and where they are on the Hilbert curve through all of IPv4: a square of 65,536 by 65,536 addresses.

export const SIDE = 65536;

/** Where an IPv4 address, as a number, is on the map: x from the left, y from the top. */
export function place(address) {
  let [x, y] = [0, 0];
  for (let bit = 0, half = 1; bit < 16; bit++, half *= 2) {
    switch ((address >>> (2 * bit)) & 3) {
      case 0: [x, y] = [y, x]; break;
      case 1: y += half; break;
      case 2: x += half; y += half; break;
      default: [x, y] = [2 * half - 1 - y, half - 1 - x];
    }
  }
  return { x, y };
}

/** The IPv4 address at a place, as a number. */
export function address(x, y) {
  let found = 0;
  for (let half = SIDE / 2; half >= 1; half /= 2) {
    const [right, low] = [x >= half, y >= half];
    let quarter;
    if (!right && !low) { quarter = 0; [x, y] = [y, x]; }
    else if (!right) { quarter = 1; y -= half; }
    else if (low) { quarter = 2; x -= half; y -= half; }
    else { quarter = 3; [x, y] = [half - 1 - y, 2 * half - 1 - x]; }
    found = found * 4 + quarter;
  }
  return found;
}

/** 10.0.0.7 from its number. */
export function text(number) {
  return [24, 16, 8, 0].map((shift) => (number >>> shift) & 255).join(".");
}

/** The number of an IPv4 address; null if it is not one. */
export function parse(ip) {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(ip);
  const bytes = match?.slice(1).map(Number);
  return bytes?.every((byte) => byte < 256) ? bytes.reduce((sum, byte) => sum * 256 + byte, 0) : null;
}

/** The network of an even prefix length around a place. */
export function networkAt(x, y, length) {
  const size = 2 ** (32 - length);
  const first = Math.floor(address(x, y) / size) * size;
  return { first, length, cidr: cidr(first, length) };
}

export function cidr(first, length) {
  return length === 32 ? text(first) : `${text(first)}/${length}`;
}

/** The smallest network of an even prefix length that has all of a range, with its place; null if it is not IPv4. */
export function square(range) {
  const [start, rest] = range.split(/[/-]/);
  const first = parse(start);
  if (first === null) return null;
  let last = first;
  if (range.includes("-")) last = parse(rest) ?? first;
  else if (range.includes("/")) last = first + 2 ** (32 - Number(rest)) - 1;
  let length = 32;
  while (length > 0 && Math.floor(first / 2 ** (32 - length)) !== Math.floor(last / 2 ** (32 - length))) length -= 2;
  const side = 2 ** ((32 - length) / 2);
  const at = place(Math.floor(first / 2 ** (32 - length)) * 2 ** (32 - length));
  return { x: at.x - (at.x % side), y: at.y - (at.y % side), side, length };
}
