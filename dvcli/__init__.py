"""dvid: one clip and its caption in, any number of clips with the same motion and depth out."""
