import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.ServerVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;

/**
 * mongo-java-server on a port of the loopback address, in memory, until it is killed. It tells version 8 of the wire
 * protocol (MongoDB 4.2), from which drivers turn away by now, though it knows what the newer ones say to it: it is made
 * to tell 9.
 */
public final class MongoJavaServer {
    public static void main(String[] arguments) throws Exception {
        var wireVersion = ServerVersion.class.getDeclaredField("wireVersion");
        wireVersion.setAccessible(true);
        wireVersion.setInt(ServerVersion.MONGO_5_0, 9);
        var backend = new MemoryBackend();
        backend.version(ServerVersion.MONGO_5_0);
        new MongoServer(backend).bind("127.0.0.1", Integer.parseInt(arguments[0]));
        Thread.currentThread().join();
    }
}
