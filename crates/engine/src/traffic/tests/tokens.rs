//! What the poller carries comes back as it was.

use crate::traffic::Token;

#[test]
fn tokens_come_back_as_they_were() {
    for token in [
        Token::Orders,
        Token::Alarm,
        Token::Channel(0),
        Token::Channel(70_000),
        Token::Source { listener: 0, source: 0 },
        Token::Source { listener: 300, source: 2047 },
    ] {
        assert_eq!(Token::decode(token.encode()), token);
    }
}
