package org.example.shop;

import java.util.concurrent.Semaphore;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;

/** A simulated database pool: a bounded number of queries at once, each taking a few milliseconds. */
final class ConnectionPool {
    /** No connection came free in time; the message is the one operators know. */
    @SuppressWarnings("serial") // Never serialized.
    static final class TimeoutException extends RuntimeException {
        TimeoutException(String message) {
            super(message);
        }
    }

    private final Semaphore free;
    private final int maximum;
    private final int timeoutMillis;
    private final AtomicInteger pending = new AtomicInteger();
    private final AtomicLong timeouts = new AtomicLong();

    ConnectionPool(int maximum, int timeoutMillis) {
        this.maximum = maximum;
        this.timeoutMillis = timeoutMillis;
        this.free = new Semaphore(maximum, true);
    }

    void query() throws InterruptedException {
        pending.incrementAndGet();
        boolean acquired;
        try {
            acquired = free.tryAcquire(timeoutMillis, TimeUnit.MILLISECONDS);
        } finally {
            pending.decrementAndGet();
        }
        if (!acquired) {
            timeouts.incrementAndGet();
            throw new TimeoutException("HikariPool-1 - Connection is not available, request timed out after "
                    + timeoutMillis + "ms.");
        }
        try {
            Thread.sleep(ThreadLocalRandom.current().nextInt(2, 9));
        } finally {
            free.release();
        }
    }

    int maximum() {
        return maximum;
    }

    int active() {
        return maximum - free.availablePermits();
    }

    int pending() {
        return pending.get();
    }

    long timeouts() {
        return timeouts.get();
    }
}
