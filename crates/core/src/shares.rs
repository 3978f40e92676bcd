//! How what comes next is to be shared out among workers when the kernel chooses, by chance, and the loads are known only
//! as they were a moment ago.

/// The sum of all shares.
pub const SHARES_TOTAL: u32 = 1_000_000;

/// Fewer are never reckoned with: somebody must have a share.
const ARRIVALS_MIN: f64 = 0.5;

/// Shares that level the loads: what `arrivals` may come until the shares are set anew is poured in, and as water fills a
/// basin it goes where the ground is lowest. With few to come only the least loaded get any; with many everybody does,
/// and differences hardly count: shares that favoured one until they are set anew would bury it.
///
/// Loads and arrivals are of one kind: requests in flight, or connections. The sum is [`SHARES_TOTAL`], give or take one
/// for each; somebody always has a share.
pub fn level(loads: &[f64], arrivals: f64) -> Vec<u32> {
    let arrivals = if arrivals.is_finite() { arrivals.max(ARRIVALS_MIN) } else { f64::from(SHARES_TOTAL) };
    let loads: Vec<f64> =
        loads.iter().map(|load| if load.is_finite() { load.max(0.0) } else { 0.0 }).collect();
    let surface = surface(&loads, arrivals);
    let share = |load: &f64| ((surface - load).max(0.0) / arrivals * f64::from(SHARES_TOTAL)).round() as u32;
    loads.iter().map(share).collect()
}

/// How high the water stands.
fn surface(loads: &[f64], arrivals: f64) -> f64 {
    let mut ground = loads.to_vec();
    ground.sort_by(f64::total_cmp);
    let mut below = 0.0;
    let mut surface = 0.0;
    for (place, load) in ground.iter().enumerate() {
        below += load;
        surface = (arrivals + below) / (place + 1) as f64;
        if ground.get(place + 1).is_none_or(|next| surface <= *next) {
            break;
        }
    }
    surface
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_loaded_are_filled_first() {
        assert_eq!(level(&[0.0, 3.0, 0.0], 2.0), [500_000, 0, 500_000]);
        assert_eq!(level(&[0.0, 1.0, 5.0], 3.0), [666_667, 333_333, 0]);
        assert_eq!(level(&[2.0, 2.0], 0.0), [500_000, 500_000]);
        assert_eq!(level(&[7.0], 1.0), [SHARES_TOTAL]);
        assert_eq!(level(&[], 1.0), [0; 0]);
    }

    #[test]
    fn many_arrivals_level_everything() {
        let shares = level(&[0.0, 1.0, 9.0], 1e6);
        assert!(shares.iter().all(|share| share.abs_diff(333_333) < 10), "{shares:?}");
    }

    #[test]
    fn somebody_always_has_a_share_and_the_sum_is_the_whole() {
        let odd = [f64::NAN, f64::INFINITY, -4.0, 0.0, 1e300, 0.3];
        for one in odd {
            for other in odd {
                for arrivals in odd {
                    let shares = level(&[one, other, 2.0], arrivals);
                    let sum: u32 = shares.iter().sum();
                    assert!(sum.abs_diff(SHARES_TOTAL) <= 3, "{one} {other} {arrivals}: {shares:?}");
                }
            }
        }
    }
}
