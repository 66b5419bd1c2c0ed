//! The calls that make containerd let go of what a snapshotter has lost: which namespaces there are, and their images.

use super::{Containerd, ContainerdError, unless_absent};
use crate::grpc::proto::containerd::services::images::v1::images_client::ImagesClient;
use crate::grpc::proto::containerd::services::images::v1::{
    DeleteImageRequest, GetImageRequest, ListImagesRequest,
};
use crate::grpc::proto::containerd::services::namespaces::v1::ListNamespacesRequest;
use crate::grpc::proto::containerd::services::namespaces::v1::namespaces_client::NamespacesClient;

impl Containerd {
    /// The namespaces of this containerd; the client's own does not matter.
    ///
    /// # Errors
    /// [`ContainerdError::Call`].
    pub async fn namespaces(&self) -> Result<Vec<String>, ContainerdError> {
        let request = self.request(ListNamespacesRequest::default());
        let answer = NamespacesClient::new(self.channel.clone())
            .list(request)
            .await;
        let namespaces = self.told(answer, "list", "namespaces")?.namespaces;
        Ok(namespaces.into_iter().map(|found| found.name).collect())
    }

    /// Removes the image `name` and its other names (CRI gives three to each), and says which there were.
    ///
    /// # Errors
    /// [`ContainerdError::Call`]; some names may be gone.
    pub async fn remove_image(&self, name: &str) -> Result<Vec<String>, ContainerdError> {
        let mut client = ImagesClient::new(self.channel.clone());
        let request = self.request(GetImageRequest {
            name: name.to_owned(),
        });
        let answer = client.get(request).await;
        let found = unless_absent(self.told(answer, "look up image", name))?;
        let image = found.and_then(|answer| answer.image);
        let Some(target) = image.and_then(|image| image.target) else {
            return Ok(Vec::new());
        };
        let request = self.request(ListImagesRequest {
            filters: vec![format!("target.digest=={:?}", target.digest)],
        });
        let answer = client.list(request).await;
        let images = self.told(answer, "list the names of image", name)?.images;
        let mut names: Vec<String> = images.into_iter().map(|image| image.name).collect();
        // The name that leads here goes last, so that a call that fails leaves a way to the rest.
        names.sort_by_key(|other| other == name);
        for name in &names {
            let request = self.request(DeleteImageRequest {
                name: name.clone(),
                ..DeleteImageRequest::default()
            });
            let answer = client.delete(request).await;
            unless_absent(self.told(answer, "remove image", name))?;
        }
        Ok(names)
    }
}
