//! The map of IPv4: the Hilbert curve, cut into square tiles of 256 by 256 cells.
//!
//! The curve visits the addresses in order, and all networks of an even prefix length are squares. At zoom `z` there are 2^z by 2^z tiles.
//! A tile is a network of prefix length 2z, and each of its cells one of prefix length 2z + 16: at zoom 0 the whole space in cells of
//! a /16, at zoom 8 a /16 in single addresses.

use std::net::Ipv4Addr;

use edgefold::AddressRange;
use fast_hilbert::{h2xy, xy2h};

use super::ranges::{Family, Ranges};

/// The cells in a row, and the rows of a tile.
const SIDE: u32 = 256;
const CELLS: usize = (SIDE * SIDE) as usize;
/// Half the bits of an address: the curve goes through a square of 2^16 by 2^16 addresses.
const ORDER: u8 = 16;
/// The zoom at which a cell is one address.
pub(super) const MOST_ZOOM: u8 = 8;

/// A tile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Tile {
    zoom: u8,
    bounds: AddressRange<Ipv4Addr>,
}

/// Addresses that are drawn in the same colour.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) colour: u8,
    pub(super) ranges: Ranges<Ipv4Addr>,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub(super) enum Layers {
    /// No address is in two of them.
    Disjoint(Vec<Layer>),
    /// An address may be in several.
    Overlapping(Vec<Layer>),
}

impl Layers {
    /// Layers that have no address in common, in the colours from 0 on.
    pub(super) fn disjoint(layers: impl IntoIterator<Item = Ranges<Ipv4Addr>>) -> Self {
        Self::Disjoint((0..).zip(layers).map(|(colour, ranges)| Layer { colour, ranges }).collect())
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Layer> {
        let (Self::Disjoint(layers) | Self::Overlapping(layers)) = self;
        layers.iter().filter(|layer| layer.ranges.len() > 0)
    }
}

impl Tile {
    /// The tile at `x` and `y`, counted in tiles from the left and from the top; `None` if there is none.
    pub(super) fn new(zoom: u8, x: u32, y: u32) -> Option<Self> {
        if zoom > MOST_ZOOM || x >= 1 << zoom || y >= 1 << zoom {
            return None;
        }
        let shift = u32::from(ORDER - zoom);
        let inside = xy2h(x << shift, y << shift, ORDER);
        // The curve stays in a tile for all of a network.
        let size = 1_u64 << (2 * shift);
        let first = inside - inside % size;
        let bounds = AddressRange::new(Ipv4Addr::at(first.into()), Ipv4Addr::at((first + (size - 1)).into()));
        Some(Self { zoom, bounds: bounds.ok()? })
    }

    /// Its addresses.
    pub(super) fn bounds(self) -> AddressRange<Ipv4Addr> {
        self.bounds
    }

    /// Two bytes for each cell, row by row: how much of it is in any layer, from 0 for nothing and 1 for next to nothing to 255 for all of
    /// it; and the colour of the layer that most of that is in. If two have as much, it is that of the first.
    pub(super) fn paint(self, layers: &Layers) -> Vec<u8> {
        let first = self.bounds.first().to_bits();
        let bits = u32::from(2 * (MOST_ZOOM - self.zoom));
        let (mut most, mut colours) = (vec![0_u32; CELLS], vec![0_u8; CELLS]);
        // How much is in any layer.
        let mut all = vec![0_u32; CELLS];
        let mut counts = vec![0_u32; CELLS];
        for layer in layers.iter() {
            counts.fill(0);
            count(&layer.ranges, first, bits, &mut counts);
            for (at, count) in counts.iter().enumerate() {
                all[at] += count;
                if *count > most[at] {
                    (most[at], colours[at]) = (*count, layer.colour);
                }
            }
        }
        if let Layers::Overlapping(_) = layers
            && layers.iter().nth(1).is_some()
        {
            // What is in several layers counts once.
            all.fill(0);
            let ranges = layers.iter().flat_map(|layer| layer.ranges.iter()).collect();
            count(&Ranges::union(ranges), first, bits, &mut all);
        }
        let mut cells = vec![0; 2 * CELLS];
        let first_cell = u64::from(first >> bits);
        for (at, (count, colour)) in (0_u64..).zip(all.into_iter().zip(colours)).filter(|(_, (count, _))| *count > 0) {
            let (x, y) = h2xy::<u32>(first_cell + at, MOST_ZOOM + self.zoom);
            let cell = 2 * (y % SIDE * SIDE + x % SIDE) as usize;
            cells[cell] = share(u64::from(count), 1 << bits);
            cells[cell + 1] = colour;
        }
        cells
    }
}

/// Adds to each cell, of which each has 2^`bits` addresses, how many of its addresses are in the ranges.
fn count(ranges: &Ranges<Ipv4Addr>, first: u32, bits: u32, cells: &mut [u32]) {
    let last_inside = 1_u32 << bits;
    for range in ranges.iter() {
        let (from, to) = (range.0.to_bits() - first, range.1.to_bits() - first);
        let (cell, end) = ((from >> bits) as usize, (to >> bits) as usize);
        if cell == end {
            cells[cell] += to - from + 1;
            continue;
        }
        cells[cell] += last_inside - (from & (last_inside - 1));
        cells[cell + 1..end].iter_mut().for_each(|count| *count += last_inside);
        cells[end] += (to & (last_inside - 1)) + 1;
    }
}

/// `count` of `size` addresses, where 0 is none, 1 at least one, and 255 all.
fn share(count: u64, size: u64) -> u8 {
    match (count, size) {
        (0, _) => 0,
        (_, 1) => 255,
        (count, size) => u8::try_from(1 + (count.min(size) - 1) * 254 / (size - 1)).unwrap_or(u8::MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// Where an address is on the map of single addresses, by the definition of the curve: of four quarters in the order of a U, the
    /// first and the last are flipped along a diagonal.
    fn place(address: u32, bits: u32) -> (u32, u32) {
        if bits == 0 {
            return (0, 0);
        }
        let half = 1 << (bits / 2 - 1);
        let quarter = address >> (bits - 2);
        let (x, y) = place(address & ((1 << (bits - 2)) - 1), bits - 2);
        match quarter {
            0 => (y, x),
            1 => (x, y + half),
            2 => (x + half, y + half),
            _ => (2 * half - 1 - y, half - 1 - x),
        }
    }

    fn tile(zoom: u8, x: u32, y: u32) -> Tile {
        Tile::new(zoom, x, y).unwrap()
    }

    fn layer(colour: u8, cidr: &str) -> Layer {
        let edgefold::IpRange::V4(range) = cidr.parse().unwrap() else { panic!("{cidr} is not IPv4") };
        Layer { colour, ranges: Ranges::union(vec![(range.first(), range.last())]) }
    }

    #[test]
    fn an_address_is_in_the_tile_and_the_cell_where_the_curve_has_it() {
        for seed in 0..500 {
            fastrand::seed(seed);
            let address = fastrand::u32(..);
            let (x, y) = place(address, 32);
            for zoom in 0..=MOST_ZOOM {
                let (shift, cell_shift) = (ORDER - zoom, MOST_ZOOM - zoom);
                let tile = tile(zoom, x >> shift, y >> shift);
                let (ip, bounds) = (Ipv4Addr::from_bits(address), tile.bounds());
                assert!(bounds.contains(ip), "seed {seed}, zoom {zoom}");
                assert_eq!(u64::from(bounds.last().to_bits() - bounds.first().to_bits()) + 1, 1 << (2 * shift));
                let ranges = Ranges::union(vec![(ip, ip)]);
                let cells = tile.paint(&Layers::Disjoint(vec![Layer { colour: 7, ranges }]));
                let painted: Vec<usize> = (0..CELLS).filter(|cell| cells[2 * cell] > 0).collect();
                let (column, row) = ((x >> cell_shift) % SIDE, (y >> cell_shift) % SIDE);
                assert_eq!(painted, [(row * SIDE + column) as usize], "seed {seed}, zoom {zoom}");
                assert_eq!(cells[2 * painted[0] + 1], 7);
            }
        }
    }

    #[test]
    fn a_cell_says_how_much_of_it_is_in_a_layer_and_what_most_of_that_is() {
        let at = |cells: &[u8], address: &str| {
            let (x, y) = place(address.parse::<Ipv4Addr>().unwrap().to_bits(), 32);
            let cell = 2 * ((y >> 8) * SIDE + (x >> 8)) as usize;
            (cells[cell], cells[cell + 1])
        };
        let whole = tile(0, 0, 0);
        let cells = whole.paint(&Layers::Overlapping(vec![
            layer(1, "10.0.0.0/15"),
            layer(2, "10.1.0.0/17"),
            layer(3, "10.2.0.0/17"),
            layer(4, "10.3.0.1/32"),
        ]));
        assert_eq!(at(&cells, "10.0.0.0"), (255, 1));
        assert_eq!(at(&cells, "10.1.0.0"), (255, 1), "in two layers it counts once");
        assert_eq!(at(&cells, "10.2.0.0"), (127, 3));
        assert_eq!(at(&cells, "10.3.0.0"), (1, 4));
        assert_eq!(at(&cells, "10.4.0.0"), (0, 0));
        let all = whole.paint(&Layers::Overlapping(vec![layer(1, "0.0.0.0/0")]));
        assert!(all.chunks(2).all(|cell| cell == [255, 1]));
        assert!(whole.paint(&Layers::Overlapping(vec![])).iter().all(|byte| *byte == 0));
    }

    #[test]
    fn the_cells_are_those_of_single_addresses() {
        // Cells of four addresses.
        let zoom = MOST_ZOOM - 1;
        for seed in 0..40 {
            fastrand::seed(seed);
            let tile = tile(zoom, fastrand::u32(..1 << zoom), fastrand::u32(..1 << zoom));
            let (first, size) = (tile.bounds().first().to_bits(), 4 * u32::try_from(CELLS).unwrap());
            // For each address, which layers it is in.
            let mut addresses = vec![[false; 3]; size as usize];
            let is_disjoint = fastrand::bool();
            for _ in 0..2_000 {
                let (from, layer) = (fastrand::u32(..size), fastrand::usize(..3));
                let length = if fastrand::u8(..100) == 0 { 5_000 } else { 6 };
                let to = fastrand::u32(from..size.min(from + length));
                for is_in in &mut addresses[from as usize..=to as usize] {
                    *is_in = if is_disjoint { [false; 3] } else { *is_in };
                    is_in[layer] = true;
                }
            }
            let layer = |colour: u8| {
                let is_in = |at: &u32| addresses[*at as usize][usize::from(colour)];
                let single = (0..size).filter(is_in).map(|at| Ipv4Addr::from_bits(first + at));
                Layer { colour, ranges: Ranges::union(single.map(|address| (address, address)).collect()) }
            };
            let layers = (0..3).map(layer).collect();
            let cells = tile.paint(&if is_disjoint { Layers::Disjoint(layers) } else { Layers::Overlapping(layers) });
            for (at, cell) in (0..).zip(addresses.chunks(4)) {
                let (x, y) = place(first + 4 * at, 32);
                let painted = 2 * ((y >> 1) % SIDE * SIDE + (x >> 1) % SIDE) as usize;
                let counts = [0, 1, 2].map(|layer| cell.iter().filter(|is_in| is_in[layer]).count());
                let in_any = cell.iter().filter(|is_in| is_in.contains(&true)).count();
                let most = (0..3).rev().max_by_key(|layer| counts[*layer]).filter(|_| in_any > 0).unwrap_or(0);
                let expected = [[0, 1, 85, 170, 255][in_any], u8::try_from(most).unwrap()];
                assert_eq!(cells[painted..painted + 2], expected, "seed {seed}, cell {at}");
            }
        }
    }

    #[test]
    fn there_are_no_tiles_beyond_the_map() {
        assert_eq!(Tile::new(0, 1, 0), None);
        assert_eq!(Tile::new(8, 0, 256), None);
        assert_eq!(Tile::new(9, 0, 0), None);
        assert_eq!(Tile::new(200, 0, 0), None);
    }
}
