package org.example.shop;

import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;

/** Least-recently-used cache of product pages, bounded by {@code cache.products.maximum-size}. */
final class ProductCache {
    private final Map<Integer, byte[]> pages = new LinkedHashMap<>(64, 0.75f, true);
    private final AtomicLong hits = new AtomicLong();
    private final AtomicLong misses = new AtomicLong();
    private final AtomicLong evictions = new AtomicLong();
    private final int maximumSize;

    ProductCache(int maximumSize) {
        this.maximumSize = maximumSize;
    }

    /** Return the page, or null on a miss: the caller then loads it and puts it here. */
    synchronized byte[] get(int product) {
        byte[] page = pages.get(product);
        (page == null ? misses : hits).incrementAndGet();
        return page;
    }

    synchronized void put(int product, byte[] page) {
        pages.put(product, page);
        Iterator<Integer> eldest = pages.keySet().iterator();
        while (pages.size() > maximumSize) {
            eldest.next();
            eldest.remove();
            evictions.incrementAndGet();
        }
    }

    /** A page as the database would give it: text, price table and pictures' metadata, 10 to 18 KB. */
    static byte[] load() {
        return new byte[ThreadLocalRandom.current().nextInt(10_240, 18_432)];
    }

    synchronized int size() {
        return pages.size();
    }

    int maximumSize() {
        return maximumSize;
    }

    long hits() {
        return hits.get();
    }

    long misses() {
        return misses.get();
    }

    long evictions() {
        return evictions.get();
    }
}
