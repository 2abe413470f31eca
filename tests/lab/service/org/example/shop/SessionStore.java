package org.example.shop;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;

/** HTTP sessions on the heap, as a servlet container keeps them: touched by use, swept in the background. */
final class SessionStore {
    /** A visitor's basket and page state: 24 to 40 KB. */
    static final class Session {
        private final List<byte[]> attributes = new ArrayList<>();
        private volatile long lastAccessedMillis = System.currentTimeMillis();
    }

    private static final Log LOG = Log.of(SessionStore.class);
    private final Map<String, Session> sessions = new ConcurrentHashMap<>();
    private final AtomicLong created = new AtomicLong();
    private final AtomicLong expired = new AtomicLong();
    private final long timeoutMillis;
    private volatile int activeMaximum;

    SessionStore(long timeoutMillis) {
        this.timeoutMillis = timeoutMillis;
        CheckoutApplication.daemon(this::sweepForEver, "Catalina-utility-1").start();
    }

    String create() {
        Session session = new Session();
        for (int attribute = 0; attribute < 3; attribute++) {
            session.attributes.add(new byte[ThreadLocalRandom.current().nextInt(8_192, 13_312)]);
        }
        String id = UUID.randomUUID().toString();
        sessions.put(id, session);
        activeMaximum = Math.max(activeMaximum, sessions.size());
        if (created.incrementAndGet() % 20 == 0) {
            LOG.info("Created session " + id + ", " + sessions.size() + " sessions active");
        }
        return id;
    }

    boolean touch(String id) {
        Session session = sessions.get(id);
        if (session == null) {
            return false;
        }
        session.lastAccessedMillis = System.currentTimeMillis();
        return true;
    }

    private void sweepForEver() {
        while (true) {
            try {
                Thread.sleep(500);
            } catch (InterruptedException stop) {
                return;
            }
            long oldest = System.currentTimeMillis() - timeoutMillis;
            int before = sessions.size();
            sessions.values().removeIf(session -> session.lastAccessedMillis < oldest);
            int gone = Math.max(0, before - sessions.size());
            if (gone > 0 && expired.addAndGet(gone) % 20 == 0) {
                LOG.debug("Expired " + gone + " sessions");
            }
        }
    }

    int active() {
        return sessions.size();
    }

    int activeMaximum() {
        return activeMaximum;
    }

    long created() {
        return created.get();
    }

    long expired() {
        return expired.get();
    }
}
